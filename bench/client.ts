/**
 * What the public client costs by itself: a producer and a consumer against a broker that only acknowledges and hands out
 * prepared batches, in the same process and without sockets. `node bench/client.ts [--cpu-prof]`; one JSON line a case.
 */
import { LedgerClient } from '../src/client/ledger-client.ts';
import type { FrameConnection, FrameHandlers, Net } from '../src/io/net.ts';
import { nodeIo } from '../src/io/node/io.ts';
import { decodeRequest, encodeResponse, type Request } from '../src/protocol/frame.ts';
import { batchCount } from '../src/protocol/record-batch.ts';
import { encodeBatch } from '../src/protocol/record-batch-encoder.ts';
import { Op } from '../src/protocol/requests.ts';
import { SendAckWriter } from '../src/protocol/send-acks.ts';

const MESSAGES = 1_000_000;
const IN_FLIGHT = 1_024;
const BATCH_MESSAGES = 64;
const PULL_BATCHES = 8;

class NullBroker implements Net {
  readonly #queues: number;
  readonly #ends = new Map<number, number>();
  readonly #batch: Uint8Array;
  busyMs = 0;

  constructor(queues: number, bodyBytes: number) {
    this.#queues = queues;
    const messages = Array.from({ length: BATCH_MESSAGES }, () => ({ body: new Uint8Array(bodyBytes), bornTimeMs: 1 }));
    const header = { producerId: 1, producerEpoch: 0, firstSequence: 0, idHigh: new Uint8Array(8), idLow: 0 };
    this.#batch = encodeBatch(messages, header).bytes;
  }

  dialFrames(_url: string, _maxFrameBytes: number, handlers: FrameHandlers): FrameConnection {
    const acks = new SendAckWriter();
    let scheduled = false;
    const connection: FrameConnection = {
      remoteAddress: '',
      bufferedBytes: 0,
      send: (frame) => {
        const startMs = performance.now();
        this.#serve(decodeRequest(frame) as Request, acks, (answer) => setImmediate(() => handlers.onFrame(connection, answer)));
        this.busyMs += performance.now() - startMs;
        if (scheduled || acks.empty) return;
        scheduled = true;
        setImmediate(() => {
          scheduled = false;
          handlers.onFrame(connection, acks.take());
        });
      },
      pause() {},
      resume() {},
      close() {},
      destroy() {},
    };
    setImmediate(() => handlers.onOpen?.(connection));
    return connection;
  }

  #serve(request: Request, acks: SendAckWriter, answer: (frame: Uint8Array) => void): void {
    const { requestId } = request;
    if (request.op === Op.send) {
      const results: number[] = [];
      let at = 0;
      for (const { queueId, sizeBytes } of request.body.parts) {
        const end = this.#ends.get(queueId) ?? 0;
        this.#ends.set(queueId, end + batchCount(request.raw, at));
        results.push(0, end, 1);
        at += sizeBytes;
      }
      acks.addParts(requestId, results);
    } else if (request.op === Op.hello) {
      const limits = { maxFrameBytes: 1 << 24, maxBatchBytes: 1 << 22, sendWindowBytes: 1 << 24 };
      answer(encodeResponse(Op.hello, requestId, { version: 1, clusterId: 'c', brokerName: 'g', replicaId: 1, ...limits }));
    } else if (request.op === Op.route) {
      const brokers = [{ brokerName: 'g', term: 1, leader: 1, replicas: [{ replicaId: 1, endpoint: 'ws://a:1' }] }];
      const placement = [{ brokerName: 'g', queues: this.#queues }];
      const topics = [{ topic: 't', topicId: 1, version: 1, perm: 6, messageType: 'normal' as const, placement }];
      answer(encodeResponse(Op.route, requestId, { brokers, topics }));
    } else if (request.op === Op.groupJoin) {
      const { group, member } = request.body;
      const queues = Array.from({ length: this.#queues }, (_, queueId) => ({ topic: 't', queueId, committedOffset: 0, epoch: 1 }));
      answer(encodeResponse(Op.groupJoin, requestId, { group, member, epoch: 1, queues, revoking: [] }));
    } else if (request.op === Op.pull) this.#pull(request, answer);
    else if (request.op === Op.offsetCommit)
      answer(encodeResponse(Op.offsetCommit, requestId, { errors: request.body.offsets.map(() => 0) }));
    else if (request.op === Op.groupLeave) answer(encodeResponse(Op.groupLeave, requestId, {}));
  }

  #pull({ requestId, body: { offset } }: Request & { readonly op: typeof Op.pull }, answer: (frame: Uint8Array) => void): void {
    const raw = new Uint8Array(this.#batch.length * PULL_BATCHES);
    const batches = Array.from({ length: PULL_BATCHES }, (_, i) => {
      raw.set(this.#batch, i * this.#batch.length);
      return { baseOffset: offset + i * BATCH_MESSAGES, logTimeMs: 1, position: 0, sizeBytes: this.#batch.length };
    });
    const nextOffset = offset + PULL_BATCHES * BATCH_MESSAGES;
    answer(encodeResponse(Op.pull, requestId, { minOffset: 0, maxOffset: nextOffset, nextOffset, batches }, raw));
  }

  dialStream(): never {
    throw new Error('unused');
  }
  listenDatagrams(): never {
    throw new Error('no datagrams here');
  }
  listenStream(): never {
    throw new Error('unused');
  }
  listenFrames(): never {
    throw new Error('unused');
  }
}

function report(name: string, messages: number, startMs: number, broker: NullBroker): void {
  const elapsedMs = performance.now() - startMs;
  const line = {
    case: name,
    msgs_per_s: Math.round((messages * 1_000) / elapsedMs),
    us_per_msg: Number(((elapsedMs * 1_000) / messages).toFixed(2)),
    fake_broker_us_per_msg: Number(((broker.busyMs * 1_000) / messages).toFixed(2)),
  };
  console.log(JSON.stringify(line));
}

function open(queues: number, bodyBytes: number): { client: LedgerClient; broker: NullBroker } {
  const io = nodeIo();
  const broker = new NullBroker(queues, bodyBytes);
  return { client: new LedgerClient({ endpoints: 'ws://a:1', io: { clock: io.clock, random: io.random, net: broker } }), broker };
}

async function produce(name: string, queues: number, bodyBytes: number, keys: number): Promise<void> {
  const { client, broker } = open(queues, bodyBytes);
  const producer = client.producer();
  const body = new Uint8Array(bodyBytes);
  const keyNames = Array.from({ length: keys }, (_, i) => `key-${i}`);
  await producer.send({ topic: 't', body });
  let sent = 0;
  const startMs = performance.now();
  broker.busyMs = 0;
  const loop = async (): Promise<void> => {
    while (sent < MESSAGES) {
      sent += 1;
      await producer.send(keys === 0 ? { topic: 't', body } : { topic: 't', body, orderingKey: keyNames[sent % keys] as string });
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, loop));
  report(name, MESSAGES, startMs, broker);
  await client.close();
}

async function consume(name: string, iterate: boolean): Promise<void> {
  const { client, broker } = open(8, 1_024);
  let seen = 0;
  const startMs = performance.now();
  if (iterate) {
    const consumer = client.consumer({ group: 'g', topics: ['t'] });
    for await (const message of consumer) if (message.body.length > 0 && ++seen >= MESSAGES) break;
  } else {
    await new Promise<void>((resolve) => {
      const handler = (message: { readonly body: Uint8Array }): void => {
        if (message.body.length > 0 && ++seen === MESSAGES) resolve();
      };
      void client.consumer({ group: 'g', topics: ['t'], handler }).start();
    });
  }
  report(name, MESSAGES, startMs, broker);
  await client.close();
}

await produce('single sends, 1 KB, 1 queue', 1, 1_024, 0);
await produce('single sends, 1 KB, 8 queues', 8, 1_024, 0);
await produce('single sends, 100 B, 1 queue', 1, 100, 0);
await produce('keyed, 1 KB, 1,000 queues', 1_000, 1_024, 10_000);
await consume('listener, 1 KB, 8 queues', false);
await consume('for await, 1 KB, 8 queues', true);
process.exit(0);
