/**
 * A consumer in a process of its own, to be killed and frozen, whose handlers end when its parent says so (over the IPC channel).
 * It can also commit as an owner that does not know that it is none any more.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConsumerOptions, LedgerClient, LedgerError } from '../../src/index.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import { errorCodeOf } from '../../src/protocol/errors.ts';
import { Op } from '../../src/protocol/requests.ts';
import { WireClient } from '../sim/wire-client.ts';

export type ToMember =
  | { readonly kind: 'end'; readonly id: number; readonly error: string | null }
  | { readonly kind: 'commit'; readonly queueId: number; readonly offset: number; readonly epoch: number }
  | { readonly kind: 'close' };
export type FromMember =
  | { readonly kind: 'start'; readonly id: number; readonly queueId: number; readonly offset: number; readonly token: number }
  | { readonly kind: 'committed'; readonly code: string }
  | { readonly kind: 'joined'; readonly member: string }
  | { readonly kind: 'closed' };

const { endpoints, topic, options } = JSON.parse(process.argv[2] as string) as {
  endpoints: string[];
  topic: string;
  options: Partial<ConsumerOptions>;
};
const say = (word: FromMember): void => void process.send?.(word);

const running = new Map<number, { resolve(): void; reject(error: Error): void }>();
let nextId = 1;
const client = new LedgerClient({ endpoints });
const consumer = client.consumer({
  group: topic,
  topics: [topic],
  consumeFromWhere: 'first',
  ...options,
  handler: ({ queueId, offset }, { fencingToken: token }) =>
    new Promise<void>((resolve, reject) => {
      const id = nextId++;
      running.set(id, { resolve, reject });
      say({ kind: 'start', id, queueId, offset, token });
    }),
});

/** What the broker's leader says to a commit under that epoch. */
async function commit(queueId: number, offset: number, epoch: number): Promise<string> {
  const request = { group: topic, member: consumer.member, epoch, offsets: [{ topic, queueId, offset }] };
  const wires = endpoints.map((endpoint) => new WireClient(nodeIo(), endpoint));
  for (;;) {
    for (const wire of wires) {
      try {
        const { body } = await wire.request(Op.offsetCommit, request);
        const error = body.errors[0] ?? 0;
        return error === 0 ? 'taken' : errorCodeOf(error);
      } catch (error) {
        if (!(error instanceof LedgerError)) throw error;
        // Not open yet, or not the leader.
        if (error.retry === 'no') return error.code;
        await sleep(20);
      }
    }
  }
}

process.on('message', (word: ToMember) => {
  if (word.kind === 'end') {
    const handler = running.get(word.id);
    running.delete(word.id);
    if (word.error === null) handler?.resolve();
    else handler?.reject(new Error(word.error));
  } else if (word.kind === 'commit') void commit(word.queueId, word.offset, word.epoch).then((code) => say({ kind: 'committed', code }));
  else void client.close().then(() => say({ kind: 'closed' }));
});
process.once('disconnect', () => process.exit(0));
await consumer.start();
say({ kind: 'joined', member: consumer.member });
