import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ERRORS } from '../../src/protocol/errors.ts';
import { decodeBrokerFrame, decodeRequest, encodeRefusal, encodeRequest, encodeResponse } from '../../src/protocol/frame.ts';
import { Op, PushKind } from '../../src/protocol/requests.ts';
import { SendAckWriter } from '../../src/protocol/send-acks.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/protocol.md'), 'utf8');

function example(name: string): Uint8Array {
  const hex = new RegExp(`<!-- ${name} -->\\n\`\`\`\\n([0-9a-f \\n]+)\`\`\``).exec(page)?.[1];
  if (hex === undefined) throw new Error(`docs/protocol.md has no example ${name}`);
  return Uint8Array.from(hex.trim().split(/\s+/), (byte) => Number.parseInt(byte, 16));
}

const RAW = Uint8Array.of(0xde, 0xad, 0xbe, 0xef);

function ack(): Uint8Array {
  const writer = new SendAckWriter();
  writer.add(2, 0, 41, 1_800_000_000_000);
  return writer.take();
}

describe('docs/protocol.md', () => {
  const hello = { minVersion: 1, maxVersion: 1, clientId: 'c1', namespace: '', zone: '', agent: 'doc' };
  const send = { oneWay: false, replication: 0, parts: [{ topic: 'flights', queueId: 3, sizeBytes: 4 }] };
  const pulled = {
    minOffset: 0,
    maxOffset: 42,
    nextOffset: 42,
    batches: [{ baseOffset: 41, logTimeMs: 1_800_000_000_000, position: 4096, sizeBytes: 4 }],
  };

  test.each<[string, Uint8Array]>([
    ['hello', encodeRequest(Op.hello, 1, 3000, hello)],
    ['send', encodeRequest(Op.send, 2, 3000, send, RAW)],
    ['sendAcks', ack()],
    ['refusal', encodeRefusal(2, 'NOT_LEADER', 'leader is 3')],
    ['pull', encodeResponse(Op.pull, 3, pulled, RAW)],
  ])('the example %s is what the code writes', (name, frame) => {
    expect(Buffer.from(frame).toString('hex')).toBe(Buffer.from(example(name)).toString('hex'));
  });

  test('the examples are read as the page says', () => {
    expect(decodeRequest(example('hello'))).toMatchObject({ op: Op.hello, requestId: 1, deadlineMs: 3000, body: hello });
    expect(decodeRequest(example('send'))).toMatchObject({ op: Op.send, body: send, raw: RAW });
    expect(decodeBrokerFrame(example('refusal'), () => Op.send)).toMatchObject({ error: 20, detail: 'leader is 3' });
    expect(decodeBrokerFrame(example('pull'), () => Op.pull)).toMatchObject({ body: pulled, raw: RAW });
  });

  test('names every operation, push and error with its number', () => {
    const sentByBroker = new Set<string>(['response', 'push', 'sendAcks']);
    for (const [name, op] of Object.entries(Op)) if (!sentByBroker.has(name)) expect(page).toContain(`| ${op} | ${name} |`);
    for (const [name, kind] of Object.entries(PushKind)) expect(page).toContain(`| ${kind} | ${name} |`);
    for (const [code, { number, retry, text }] of Object.entries(ERRORS)) {
      expect(page).toContain(`| ${number} | \`${code}\` | ${retry} | ${text} |`);
    }
  });
});
