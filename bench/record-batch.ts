import { checkBatch, DEFAULT_BATCH_LIMITS, sealBatch, setSequence, tagBloom } from '../src/protocol/record-batch.ts';
import { type BatchHeader, type BatchMessage, encodeBatch } from '../src/protocol/record-batch-encoder.ts';
import { BatchReader } from '../src/protocol/record-batch-reader.ts';

/** What one batch costs at each station of its way. `node bench/record-batch.ts`; one JSON line a case, ns per message. */
const CASE_MS = 150;

const header: BatchHeader = { producerId: 5, producerEpoch: 1, firstSequence: 9, idHigh: new Uint8Array(8).fill(7), idLow: 1 };
/** What the loops made, so that no work can be optimised away. */
let sink = 0;

function nsPerRun(work: () => void): number {
  for (let i = 0; i < 200; i++) work();
  const from = performance.now();
  let runs = 0;
  let elapsedMs = 0;
  while (elapsedMs < CASE_MS) {
    for (let i = 0; i < 50; i++) work();
    runs += 50;
    elapsedMs = performance.now() - from;
  }
  return (elapsedMs * 1e6) / runs;
}

function measure(bodyBytes: number, count: number, kind: 'plain' | 'tag and key'): void {
  const body = new Uint8Array(bodyBytes).fill(97);
  const messages: BatchMessage[] = Array.from({ length: count }, (_, i) =>
    kind === 'plain' ? { body, bornTimeMs: 1_700_000_000_000 } : { body, bornTimeMs: 1_700_000_000_000, tag: 'TagA', keys: [`order-${i}`] },
  );
  const { bytes } = encodeBatch(messages, header, 64);
  const perMessage = {
    encode: nsPerRun(() => {
      sink += encodeBatch(messages, header, 64).bytes.length;
    }),
    resequence: nsPerRun(() => {
      setSequence(bytes, 5, 2, 0);
      sealBatch(bytes);
    }),
    check: nsPerRun(() => {
      sink += checkBatch(bytes, DEFAULT_BATCH_LIMITS) === null ? 1 : 0;
    }),
    tagBloom: nsPerRun(() => {
      sink += tagBloom(bytes);
    }),
    read: nsPerRun(() => {
      const reader = new BatchReader(bytes, 0);
      for (let i = 0; i < count; i++) sink += reader.body(i).length;
    }),
    readAll: nsPerRun(() => {
      const reader = new BatchReader(bytes, 0);
      for (let i = 0; i < count; i++) sink += reader.body(i).length + reader.messageId(i).length + (reader.tag(i)?.length ?? 0);
    }),
  };
  const ns = Object.fromEntries(Object.entries(perMessage).map(([name, value]) => [name, Math.round(value / count)]));
  console.log(JSON.stringify({ bench: 'record-batch', bodyBytes, count, kind, nsPerMessage: ns }));
}

for (const bodyBytes of [100, 1024]) {
  for (const count of [1, 32, 256]) {
    for (const kind of ['plain', 'tag and key'] as const) measure(bodyBytes, count, kind);
  }
}
if (sink === 0) process.exitCode = 1;
