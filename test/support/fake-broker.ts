import { Broker, type BrokerOptions } from '../../src/broker/broker.ts';
import type { BrokerLimits } from '../../src/broker/limits.ts';
import { DEFAULT_BROKER_LIMITS } from '../../src/broker/limits.ts';
import type { BrokerMetrics } from '../../src/broker/ports.ts';
import { NO_METRICS } from '../../src/broker/ports.ts';
import type { Request } from '../../src/broker/session.ts';
import type { SettingName } from '../../src/broker/settings.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { Property, type PropertyList } from '../../src/protocol/properties.ts';
import { BatchFlag } from '../../src/protocol/record-batch.ts';
import { encodeBatch } from '../../src/protocol/record-batch-encoder.ts';
import type { PullRequest, RequestOp, Requests, Responses } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { StaticRouting } from '../../src/routing/static-routing.ts';
import { FakeClock } from './fake-clock.ts';
import { FakeReplica } from './fake-replica.ts';
import { FakeSession } from './fake-session.ts';
import { MemoryIds, MemoryQueues } from './fake-stores.ts';

const NONE = new Uint8Array(0);

export interface BatchOptions {
  readonly producerId?: number;
  readonly epoch?: number;
  readonly sequence?: number;
  readonly count?: number;
  readonly tags?: readonly (string | undefined)[];
  /** Of each message. */
  readonly keys?: readonly (readonly string[])[];
  /** Of each message; default none. */
  readonly properties?: readonly PropertyList[];
  readonly idHigh?: Uint8Array;
  readonly idLow?: number;
  readonly bodyBytes?: number;
  /** A half message of this producer group. */
  readonly half?: string;
  /** CHECK_IMMUNITY_TIME_IN_SECONDS. */
  readonly immunity?: string;
}

/** A sealed batch of small messages. Producer id 0 = one-way. */
export function makeBatch(options: BatchOptions = {}): Uint8Array {
  const {
    producerId = 0,
    epoch = 0,
    sequence = 0,
    tags,
    keys,
    properties,
    count = (tags ?? keys ?? properties)?.length ?? 1,
    idLow = 0,
    bodyBytes = 10,
  } = options;
  const messages = Array.from({ length: count }, (_, i) => ({
    body: new Uint8Array(bodyBytes).fill(idLow + i),
    bornTimeMs: 1_700_000_000_000,
    tag: tags?.[i],
    keys: keys?.[i],
    properties: options.half === undefined ? properties?.[i] : halfProperties(options.half, options.immunity),
  }));
  const idHigh = options.idHigh ?? Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const header = {
    producerId,
    producerEpoch: epoch,
    firstSequence: sequence,
    idHigh,
    idLow,
    deferral: options.half === undefined ? null : HALF,
  };
  return encodeBatch(messages, header).bytes.slice();
}

const HALF = { flag: BatchFlag.half, delay: 0 };

function halfProperties(group: string, immunity: string | undefined): [string, string][] {
  return [
    [Property.producerGroup, group],
    ...(immunity === undefined ? [] : [[Property.checkImmunitySeconds, immunity] as [string, string]]),
  ];
}

/** A whole broker over a fake replica: requests in, answers out, time and commits by hand. */
export class BrokerHarness {
  readonly clock = new FakeClock();
  readonly queues = new MemoryQueues();
  readonly ids = new MemoryIds();
  readonly machine: BrokerStateMachine;
  readonly replica: FakeReplica;
  readonly broker: Broker;
  readonly routing: StaticRouting;
  readonly events: string[] = [];
  readonly damaged: number[] = [];
  filteredBytes = 0;
  /** A member was not heard: the level stays. */
  readonly featureLevel = { announcedLevel: () => 0, autoRaise: true };
  /** What the replica's side makes of a membership change. */
  membershipChange: (change: unknown) => Promise<void> = () => Promise.resolve();
  #requestId = 0;
  /** Messages that the metrics were told of, by what happened to them. */
  readonly counted: Record<string, number> = {};

  constructor(
    limits: Partial<BrokerLimits> = {},
    segmentBytes?: number,
    settings: Partial<Record<SettingName, number>> = {},
    cluster: Partial<Pick<BrokerOptions, 'brokerName' | 'clusterTopics' | 'featureLevel' | 'diskWatermark'>> & {
      routing?: StaticRouting;
    } = {},
  ) {
    const brokerName = cluster.brokerName ?? 'broker-a';
    this.machine = new BrokerStateMachine({ brokerName, queues: this.queues, ids: this.ids });
    this.routing = cluster.routing ?? new StaticRouting({ brokerName, replicas: [{ replicaId: 1, endpoint: 'ws://a' }] });
    this.replica = new FakeReplica({ machine: this.machine, ...(segmentBytes === undefined ? {} : { segmentBytes }) });
    const metrics: BrokerMetrics = {
      ...NO_METRICS,
      event: (name) => this.events.push(name),
      filteredOut: (_topic, _group, bytes) => {
        this.filteredBytes += bytes;
      },
      damagedRead: (position) => this.damaged.push(position),
      timersEnqueued: (topic, messages) => this.#count(`enqueued ${topic}`, messages),
      timersDequeued: (topic, messages) => this.#count(`dequeued ${topic}`, messages),
      transactionsDiscarded: (messages) => this.#count('discarded', messages),
    };
    const status = { brokerName: 'broker-a' } as never;
    this.broker = new Broker({
      clusterId: 'test',
      brokerName,
      clock: this.clock,
      replica: this.replica,
      state: this.machine,
      ids: this.ids,
      routes: this.routing,
      hooks: {
        raftStatus: () => status,
        transfer: () => Promise.resolve(),
        addReplica: (member) => this.membershipChange(member),
        removeReplica: (replicaId) => this.membershipChange(replicaId),
        verifyChain: () => Promise.reject(new Error('none')),
      },
      limits: { ...DEFAULT_BROKER_LIMITS, ...limits },
      metrics,
      settings,
      featureLevel: cluster.featureLevel ?? this.featureLevel,
      ...(cluster.diskWatermark === undefined ? {} : { diskWatermark: cluster.diskWatermark }),
      ...(cluster.clusterTopics === undefined ? {} : { clusterTopics: cluster.clusterTopics }),
    });
  }

  #count(what: string, messages: number): void {
    this.counted[what] = (this.counted[what] ?? 0) + messages;
  }

  /** A leader with topics of so many queues. */
  static ready(
    topics: Record<string, number> = { T: 4 },
    limits: Partial<BrokerLimits> = {},
    segmentBytes?: number,
    more: Pick<BrokerOptions, 'diskWatermark'> = {},
  ): BrokerHarness {
    const harness = new BrokerHarness(limits, segmentBytes, {}, more);
    harness.replica.leadReady();
    const session = harness.session();
    for (const [topic, queues] of Object.entries(topics)) {
      harness.ask(session, Op.topicCreate, { topic, queues, perm: 6, messageType: 'normal', replication: 2 });
    }
    return harness;
  }

  session(): FakeSession {
    const session = new FakeSession();
    this.broker.opened(session, { minVersion: 1, maxVersion: 1, clientId: session.clientId, namespace: '', zone: '', agent: 'test' });
    return session;
  }

  /** Sends a request; does not commit. @returns its id */
  request<O extends RequestOp>(session: FakeSession, op: O, body: Requests[O], raw: Uint8Array = NONE): number {
    const requestId = ++this.#requestId;
    this.broker.request(session, { op, requestId, deadlineMs: 0, body, raw } as unknown as Request);
    return requestId;
  }

  /** Sends a request, commits what it proposed. @returns the answer, or the code of the refusal */
  ask<O extends RequestOp>(session: FakeSession, op: O, body: Requests[O]): Responses[O] {
    const requestId = this.request(session, op, body);
    this.replica.settle();
    return session.answers.get(requestId) as Responses[O];
  }

  send(session: FakeSession, topic: string, queueId: number, batch: Uint8Array, replication = 0): number {
    return this.request(session, Op.send, { oneWay: false, replication, parts: [{ topic, queueId, sizeBytes: batch.length }] }, batch);
  }

  /** @returns [error, base offset] */
  sent(session: FakeSession, topic: string, queueId: number, batch: Uint8Array): unknown[] {
    const requestId = this.send(session, topic, queueId, batch);
    this.replica.settle();
    return (session.answers.get(requestId) as unknown[]).slice(0, 2);
  }

  pull(session: FakeSession, request: Partial<PullRequest>): number {
    return this.request(session, Op.pull, {
      topic: 'T',
      queueId: 0,
      offset: 0,
      maxBytes: 1 << 20,
      maxMessages: 1000,
      waitMs: 0,
      group: '',
      member: '',
      epoch: 0,
      tagHashes: [],
      ...request,
    });
  }

  join(session: FakeSession, group: string, member: string, topics: string[] = ['T']): Responses[typeof Op.groupJoin] {
    return this.ask(session, Op.groupJoin, { group, member, topics, strategy: 'sticky', sessionTimeoutMs: 10_000 });
  }
}
