import { LedgerClient } from '../../src/client/ledger-client.ts';
import type { ClientOptions } from '../../src/client/options.ts';
import type { FrameConnection } from '../../src/io/net.ts';
import type { Random } from '../../src/io/random.ts';
import { ERRORS, type ErrorCode } from '../../src/protocol/errors.ts';
import { decodeRequest, encodePush, encodeRefusal, encodeResponse, type Request } from '../../src/protocol/frame.ts';
import { batchCount, batchFirstSequence, batchHasSequence, batchProducerEpoch, batchProducerId } from '../../src/protocol/record-batch.ts';
import { BatchReader } from '../../src/protocol/record-batch-reader.ts';
import { type Assignment, Op, type PullRequest, PushKind, type RouteResponse, type SendResult } from '../../src/protocol/requests.ts';
import { SendAckWriter } from '../../src/protocol/send-acks.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryNet } from './memory-net.ts';

/** What a script makes of one batch: an error instead of storing it, no answer at all, or stored and no answer. */
export type Verdict = ErrorCode | 'swallow' | 'storeAndSwallow' | null;
export interface SentBatch {
  readonly queueId: number;
  readonly epoch: number;
  readonly sequence: number;
  readonly bodies: string[];
  readonly atMs: number;
  readonly endpoint: string;
  readonly frame: number;
}
interface Stored {
  readonly baseOffset: number;
  readonly bytes: Uint8Array;
  readonly count: number;
}
interface Poll {
  readonly connection: FrameConnection;
  readonly request: Request & { readonly op: typeof Op.pull };
}

export class SeededRandom implements Random {
  #state = 12_345;
  u32(): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#state;
  }
  unit(): number {
    return this.u32() / 0x1_0000_0000;
  }
  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.u32() >>> 24;
  }
}

/**
 * One broker group of three replicas as clients see it: stores by sequence like the real one, and does what the test's script
 * says instead when there is one. All replicas share one state; only the leader serves.
 */
export class ScriptedGroup {
  readonly clock = new ManualClock();
  readonly net = new MemoryNet(this.clock);
  readonly endpoints = ['ws://a:1', 'ws://b:1', 'ws://c:1'];
  readonly sent: SentBatch[] = [];
  readonly requests: { readonly op: number; readonly body: unknown; readonly atMs: number }[] = [];
  readonly stored = new Map<number, Stored[]>();
  readonly committed = new Map<number, number>();
  queues = 1;
  sendWindowBytes = 16 * 1024 * 1024;
  /** What hello says of compressed bodies; undefined: nothing, as an older release. */
  maxCodec: number | undefined;
  leader = 1;
  term = 1;
  assignment: Assignment | null = null;
  script: (batch: SentBatch) => Verdict = () => null;
  refusePulls: ErrorCode | null = null;
  refuseCommits: ErrorCode | null = null;
  /** Like a broker at its bound of held pulls: what finds nothing is answered at once. */
  holdsPulls = true;
  /** Nothing is answered: releases that travel. */
  swallowReleases = false;
  /** Requests that came to a replica that does not lead. */
  redirects = 0;
  #member = '';
  readonly #sequences = new Map<string, { epoch: number; next: number; results: Map<number, number> }>();
  readonly #polls = new Set<Poll>();
  readonly #connections = new Set<FrameConnection>();
  #frames = 0;

  constructor() {
    for (const endpoint of this.endpoints) this.listen(endpoint);
  }

  listen(endpoint: string): void {
    this.net.listen(endpoint, (connection) => {
      this.#connections.add(connection);
      return {
        onFrame: (_connection, frame) => this.#request(endpoint, connection, decodeRequest(frame) as Request),
        onClose: () => this.#connections.delete(connection),
      };
    });
  }

  client(options: Partial<ClientOptions> = {}): LedgerClient {
    const io = { clock: this.clock, random: new SeededRandom(), net: this.net };
    return new LedgerClient({ endpoints: this.endpoints[0] as string, clientId: 'test', io, ...options });
  }

  elect(replicaId: number): void {
    this.leader = replicaId;
    this.term += 1;
  }

  /** Ends the process of a replica. */
  kill(replicaId: number): void {
    this.net.kill(this.endpoints[replicaId - 1] as string);
  }

  route(): RouteResponse {
    const replicas = this.endpoints.map((endpoint, i) => ({ replicaId: i + 1, endpoint }));
    const placement = [{ brokerName: 'g', queues: this.queues }];
    return {
      brokers: [{ brokerName: 'g', term: this.term, leader: this.leader, replicas }],
      topics: [{ topic: 't', topicId: 1, version: 1, perm: 6, messageType: 'normal', placement }],
    };
  }

  /** Bodies of a queue in offset order. */
  bodies(queueId = 0): string[] {
    return (this.stored.get(queueId) ?? []).flatMap(({ bytes, baseOffset }) => bodiesOf(bytes, baseOffset));
  }

  assign(assignment: Assignment): void {
    this.assignment = assignment;
    const mine = this.#member === '' ? assignment : { ...assignment, member: this.#member };
    for (const connection of this.#connections) connection.send(encodePush(PushKind.assignment, mine));
  }

  #request(endpoint: string, connection: FrameConnection, request: Request): void {
    this.requests.push({ op: request.op, body: request.body, atMs: this.clock.monotonicMs() });
    const leads = this.endpoints[this.leader - 1] === endpoint;
    const { requestId } = request;
    if (request.op === Op.hello) {
      const replicaId = this.endpoints.indexOf(endpoint) + 1;
      const limits = { maxFrameBytes: 16 * 1024 * 1024, maxBatchBytes: 4 * 1024 * 1024, sendWindowBytes: this.sendWindowBytes };
      const codec = this.maxCodec === undefined ? {} : { maxCodec: this.maxCodec };
      const hello = { version: 1, clusterId: 'c', brokerName: 'g', replicaId, ...limits, ...codec };
      connection.send(encodeResponse(Op.hello, requestId, hello));
      return;
    }
    if (request.op === Op.ping) {
      connection.send(encodeResponse(Op.ping, requestId, {}));
      return;
    }
    if (request.op === Op.route) {
      const route = this.route();
      const topics = route.topics.filter(({ topic }) => request.body.topics.includes(topic));
      connection.send(encodeResponse(Op.route, requestId, { ...route, topics }));
      return;
    }
    if (!leads) {
      this.redirects += 1;
      connection.send(encodeRefusal(requestId, 'NOT_LEADER'));
      return;
    }
    this.#serve(endpoint, connection, request);
  }

  #serve(endpoint: string, connection: FrameConnection, request: Request): void {
    const { requestId } = request;
    switch (request.op) {
      case Op.send:
        this.#send(endpoint, connection, request);
        return;
      case Op.pull:
        if (this.refusePulls !== null) {
          connection.send(encodeRefusal(requestId, this.refusePulls));
          return;
        }
        this.#polls.add({ connection, request });
        this.#answerPolls();
        return;
      case Op.groupJoin:
        this.#member = request.body.member;
        if (this.assignment === null) {
          connection.send(encodeRefusal(requestId, 'NOT_READY'));
          return;
        }
        connection.send(encodeResponse(Op.groupJoin, requestId, { ...this.assignment, member: request.body.member }));
        return;
      case Op.groupHeartbeat:
        connection.send(encodeResponse(Op.groupHeartbeat, requestId, { assignment: null }));
        return;
      case Op.groupRelease:
        if (this.swallowReleases) return;
        for (const { queueId, offset } of request.body.queues) this.committed.set(queueId, offset);
        connection.send(encodeResponse(Op.groupRelease, requestId, {}));
        return;
      case Op.groupLeave:
        connection.send(encodeResponse(Op.groupLeave, requestId, {}));
        return;
      case Op.offsetCommit: {
        const { refuseCommits } = this;
        if (refuseCommits !== null) {
          const errors = request.body.offsets.map(() => ERRORS[refuseCommits].number);
          connection.send(encodeResponse(Op.offsetCommit, requestId, { errors }));
          return;
        }
        for (const { queueId, offset } of request.body.offsets) this.committed.set(queueId, offset);
        connection.send(encodeResponse(Op.offsetCommit, requestId, { errors: request.body.offsets.map(() => 0) }));
        return;
      }
      case Op.queueRange: {
        const end = this.#end(request.body.queueId);
        connection.send(encodeResponse(Op.queueRange, requestId, { minOffset: 0, maxOffset: end, timeOffset: 0 }));
        return;
      }
      default:
        connection.send(encodeRefusal(requestId, 'UNKNOWN_OPERATION'));
        return;
    }
  }

  #send(endpoint: string, connection: FrameConnection, request: Request & { readonly op: typeof Op.send }): void {
    const results: number[] = [];
    let silent = request.body.oneWay;
    let at = 0;
    this.#frames += 1;
    for (const { queueId, sizeBytes } of request.body.parts) {
      const bytes = request.raw.slice(at, at + sizeBytes);
      at += sizeBytes;
      const batch: SentBatch = {
        queueId,
        epoch: batchProducerEpoch(bytes, 0),
        sequence: batchFirstSequence(bytes, 0),
        bodies: bodiesOf(bytes, 0),
        atMs: this.clock.monotonicMs(),
        endpoint,
        frame: this.#frames,
      };
      this.sent.push(batch);
      const verdict = this.script(batch);
      if (verdict === 'swallow' || verdict === 'storeAndSwallow') silent = true;
      if (verdict === null || verdict === 'storeAndSwallow') {
        const result = this.#store(queueId, bytes);
        results.push(result.error, result.baseOffset, result.logTimeMs);
      } else results.push(verdict === 'swallow' ? 0 : ERRORS[verdict].number, -1, 0);
    }
    this.#answerPolls();
    if (silent) return;
    const acks = new SendAckWriter();
    acks.addParts(request.requestId, results);
    connection.send(acks.take());
  }

  #store(queueId: number, bytes: Uint8Array): SendResult {
    const key = `${batchProducerId(bytes, 0)}/${queueId}`;
    const epoch = batchProducerEpoch(bytes, 0);
    const sequence = batchFirstSequence(bytes, 0);
    if (batchHasSequence(bytes, 0)) {
      let known = this.#sequences.get(key);
      if (known === undefined || epoch > known.epoch) {
        if (sequence !== 0) return refused(known === undefined ? 'UNKNOWN_PRODUCER' : 'OUT_OF_SEQUENCE');
        known = { epoch, next: 0, results: new Map() };
        this.#sequences.set(key, known);
      }
      if (epoch < known.epoch) return refused('FENCED');
      const before = known.results.get(sequence);
      if (before !== undefined) return { error: 0, baseOffset: before, logTimeMs: 1 };
      if (sequence !== known.next) return refused('OUT_OF_SEQUENCE');
      known.next += batchCount(bytes, 0);
      known.results.set(sequence, this.#end(queueId));
    }
    const baseOffset = this.#end(queueId);
    const batches = this.stored.get(queueId) ?? [];
    this.stored.set(queueId, batches);
    batches.push({ baseOffset, bytes, count: batchCount(bytes, 0) });
    return { error: 0, baseOffset, logTimeMs: 1 };
  }

  #end(queueId: number): number {
    const last = this.stored.get(queueId)?.at(-1);
    return last === undefined ? 0 : last.baseOffset + last.count;
  }

  #answerPolls(): void {
    for (const poll of [...this.#polls]) {
      const body: PullRequest = poll.request.body;
      if (!this.#connections.has(poll.connection)) {
        this.#polls.delete(poll);
        continue;
      }
      const found: Stored[] = [];
      let messages = 0;
      for (const batch of this.stored.get(body.queueId) ?? []) {
        if (batch.baseOffset + batch.count <= body.offset || messages >= body.maxMessages) continue;
        found.push(batch);
        messages += batch.count;
      }
      if (found.length === 0 && body.waitMs > 0 && this.holdsPulls) continue;
      this.#polls.delete(poll);
      const last = found.at(-1);
      const nextOffset = last === undefined ? body.offset : last.baseOffset + last.count;
      const batches = found.map(({ baseOffset, bytes }) => ({ baseOffset, logTimeMs: 1, position: 0, sizeBytes: bytes.length }));
      const answer = { minOffset: 0, maxOffset: this.#end(body.queueId), nextOffset, batches };
      poll.connection.send(encodeResponse(Op.pull, poll.request.requestId, answer, Buffer.concat(found.map(({ bytes }) => bytes))));
    }
  }
}

function refused(code: ErrorCode): SendResult {
  return { error: ERRORS[code].number, baseOffset: -1, logTimeMs: 0 };
}

function bodiesOf(bytes: Uint8Array, baseOffset: number): string[] {
  const reader = new BatchReader(bytes, baseOffset);
  return Array.from({ length: reader.count }, (_, i) => reader.body(i).toString());
}
