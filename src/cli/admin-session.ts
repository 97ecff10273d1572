import { setTimeout as sleep } from 'node:timers/promises';
import { askEveryGroup } from '../client/every-group.ts';
import { Link, type LinkOptions } from '../client/link.ts';
import type { GroupPort } from '../client/message-search.ts';
import { TopicAdmin } from '../client/topic-admin.ts';
import type { Io } from '../io/io.ts';
import { nodeIo } from '../io/node/io.ts';
import { type ErrorCode, LedgerError } from '../protocol/errors.ts';
import type { RaftStatus } from '../protocol/raft-requests.ts';
import type { ClusterStatus } from '../protocol/requests.ts';
import { type BrokerRoute, Op, type RequestOp, type Requests, type Responses } from '../protocol/requests.ts';
import { CommandError, type Context, Exit, usageError } from './context.ts';
import { note } from './output.ts';

export const DEFAULT_ENDPOINT = 'ws://127.0.0.1:7460';
const CONNECT_TIMEOUT_MS = 3000;
/** An answer that comes sooner needs no word before it. */
const QUIET_MS = 250;
const REQUEST_TIMEOUT_MS = 10_000;
/** How long a command looks for a leader before it gives up with exit code 4. */
const LEADER_TIMEOUT_MS = 15_000;
const RETRY_MS = 100;

/** One replica as its own answer shows it; `status` is null when it does not answer. */
export interface ReplicaView {
  readonly brokerName: string;
  readonly replicaId: number;
  readonly endpoint: string;
  readonly status: RaftStatus | null;
}

/** The addresses of `--endpoint` or LEDGERMQ_ENDPOINT. @throws CommandError (usage) */
export function endpointsOf(context: Context, option: string | undefined): string[] {
  const text = option ?? context.env['LEDGERMQ_ENDPOINT'] ?? DEFAULT_ENDPOINT;
  const endpoints = text
    .split(',')
    .map((endpoint) => endpoint.trim())
    .filter((endpoint) => endpoint !== '');
  for (const endpoint of endpoints) {
    const url = URL.parse(endpoint);
    if (url?.protocol !== 'ws:' || url.port === '')
      throw usageError(`--endpoint: ${JSON.stringify(endpoint)} is not of the form ws://host:port`);
  }
  if (endpoints.length === 0) throw usageError('--endpoint: no address given');
  return endpoints;
}

/**
 * Requests to chosen replicas, one at a time: what administration needs and an application does not. The application's
 * client (src/client/) hides which replica answers; here that is the point.
 */
export class AdminSession {
  readonly #io: Io = nodeIo();
  readonly #links = new Map<string, Link>();
  readonly #seeds: readonly string[];
  #brokers: readonly BrokerRoute[] = [];

  private constructor(seeds: readonly string[]) {
    this.#seeds = seeds;
  }

  /** @throws CommandError (unreachable) when none of the addresses answers */
  static async open(context: Context, endpointOption: string | undefined): Promise<AdminSession> {
    return AdminSession.connect(endpointsOf(context, endpointOption), context);
  }

  /** @param context is told what is tried when that takes longer than a person likes to wait */
  static async connect(endpoints: readonly string[], context?: Context): Promise<AdminSession> {
    const session = new AdminSession(endpoints);
    const trying = (): void => {
      if (context !== undefined) note(context, `trying ${endpoints.join(', ')} for ${CONNECT_TIMEOUT_MS / 1000} s …`);
    };
    const timer = setTimeout(trying, QUIET_MS);
    try {
      await session.clusterStatus();
    } catch (error) {
      session.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return session;
  }

  close(): void {
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }
  [Symbol.dispose](): void {
    this.close();
  }

  /** As the first replica that answers sees it; also refreshes what is known of leaders. */
  async clusterStatus(): Promise<ClusterStatus> {
    const known = this.#brokers.flatMap((broker) => broker.replicas.map((replica) => replica.endpoint));
    const endpoints = [...new Set([...this.#seeds, ...known])];
    const asked = endpoints.map((endpoint) => this.call(endpoint, Op.clusterStatus, {}, CONNECT_TIMEOUT_MS).then((answer) => answer.body));
    let answered: ClusterStatus;
    try {
      answered = await Promise.any(asked);
    } catch {
      throw new CommandError(Exit.unreachable, `no broker answers at ${endpoints.join(', ')}`);
    }
    this.#brokers = answered.brokers;
    return answered;
  }

  get brokers(): readonly BrokerRoute[] {
    return this.#brokers;
  }

  /** All broker groups as that replica knows them. @throws LedgerError */
  async routeOf(endpoint: string): Promise<readonly BrokerRoute[]> {
    return (await this.call(endpoint, Op.route, { topics: [] })).body.brokers;
  }

  /** One request to one replica. @throws LedgerError */
  call<O extends RequestOp>(
    endpoint: string,
    op: O,
    body: Requests[O],
    timeoutMs = REQUEST_TIMEOUT_MS,
  ): Promise<{ body: Responses[O]; raw: Uint8Array }> {
    const link = this.#link(endpoint);
    return new Promise((resolve, reject) => {
      link.whenReady(Math.min(timeoutMs, CONNECT_TIMEOUT_MS), (ready) => {
        if (!ready) return reject(new LedgerError('NO_ROUTE', `${endpoint} does not answer`));
        link.request(op, body, timeoutMs, (error, answer, raw) => {
          if (error !== null) reject(error);
          else resolve({ body: answer as Responses[O], raw });
        });
      });
    });
  }

  /**
   * One request to the leader of a broker group; follows redirects and elections.
   * @param brokerName undefined takes the only group
   * @throws LedgerError; CommandError (timed out) when there is no leader
   */
  async leader<O extends RequestOp>(
    op: O,
    body: Requests[O],
    brokerName?: string,
    timeoutMs = LEADER_TIMEOUT_MS,
  ): Promise<{ body: Responses[O]; raw: Uint8Array }> {
    const deadlineMs = performance.now() + timeoutMs;
    let last: unknown = null;
    while (performance.now() < deadlineMs) {
      const broker = this.broker(brokerName);
      const leader = broker.replicas.find((replica) => replica.replicaId === broker.leader);
      if (leader !== undefined) {
        try {
          return await this.call(leader.endpoint, op, body);
        } catch (error) {
          if (!(error instanceof LedgerError) || error.retry !== 'redirect') throw error;
          last = error;
        }
      }
      await sleep(RETRY_MS);
      await this.clusterStatus();
    }
    throw new CommandError(
      Exit.timedOut,
      `broker group ${this.broker(brokerName).brokerName} has no leader: ${(last as Error | null)?.message ?? 'none known'}`,
    );
  }

  /**
   * One request to the leader of every broker group.
   * @param absent a refusal that only says that the group has none of it
   * @throws as leader(); LedgerError `absent` when all groups say so
   */
  async leaders<O extends RequestOp>(
    op: O,
    body: Requests[O],
    absent?: ErrorCode,
  ): Promise<{ readonly brokerName: string; readonly body: Responses[O] }[]> {
    return askEveryGroup(
      this.#brokers.map(({ brokerName }) => brokerName),
      async (brokerName) => (await this.leader(op, body, brokerName)).body,
      absent,
    );
  }

  /** Changes of topics on all broker groups. */
  topics(): TopicAdmin {
    return new TopicAdmin({
      clock: this.#io.clock,
      random: this.#io.random,
      brokerNames: async () => this.#brokers.map(({ brokerName }) => brokerName),
      askLeader: async (brokerName, op, body, timeoutMs) => (await this.#askLeader(brokerName, op, body, timeoutMs)).body,
      sleep: (delayMs) => sleep(delayMs),
    });
  }

  /** For what asks every broker group and tells apart who could not be asked. */
  groups(): GroupPort {
    return {
      brokerNames: async () => this.#brokers.map(({ brokerName }) => brokerName),
      askLeader: (brokerName, op, body, timeoutMs) => this.#askLeader(brokerName, op, body, timeoutMs),
    };
  }

  /** As leader(), with nothing but LedgerErrors. */
  async #askLeader<O extends RequestOp>(
    brokerName: string,
    op: O,
    body: Requests[O],
    timeoutMs?: number,
  ): Promise<{ body: Responses[O]; raw: Uint8Array }> {
    // A placement may name a group that no broker knows any more.
    if (!this.#brokers.some((broker) => broker.brokerName === brokerName))
      throw new LedgerError('NO_ROUTE', `no broker group ${brokerName}`);
    try {
      return await this.leader(op, body, brokerName, timeoutMs);
    } catch (error) {
      throw error instanceof LedgerError ? error : new LedgerError('NO_ROUTE', (error as Error).message);
    }
  }

  /** The group of this name, or the only one. @throws CommandError (usage) */
  broker(brokerName: string | undefined): BrokerRoute {
    const names = this.#brokers.map((broker) => broker.brokerName).join(', ');
    const found = brokerName === undefined ? this.#brokers[0] : this.#brokers.find((broker) => broker.brokerName === brokerName);
    if (found === undefined) throw usageError(`no broker group ${brokerName ?? ''}; there are: ${names}`);
    return found;
  }

  /** Every replica of every group, asked itself. One that is dead has left the routes, but is still one of its leader's peers. */
  async replicas(brokerName?: string): Promise<ReplicaView[]> {
    const brokers = brokerName === undefined ? this.#brokers : [this.broker(brokerName)];
    const views = await Promise.all(
      brokers.flatMap((broker) =>
        broker.replicas.map(async ({ replicaId, endpoint }): Promise<ReplicaView> => {
          const answer = await this.call(endpoint, Op.raftStatus, {}, CONNECT_TIMEOUT_MS).catch(() => null);
          return { brokerName: broker.brokerName, replicaId, endpoint, status: answer?.body ?? null };
        }),
      ),
    );
    const missing = brokers.flatMap((broker) => missingOf(broker.brokerName, views));
    // The next round finds it where it is by then.
    if (missing.length > 0) await this.clusterStatus();
    return [...views, ...missing].sort((a, b) =>
      a.brokerName === b.brokerName ? a.replicaId - b.replicaId : a.brokerName < b.brokerName ? -1 : 1,
    );
  }

  #link(endpoint: string): Link {
    let link = this.#links.get(endpoint);
    if (link === undefined) {
      link = new Link(endpoint, this.#io, LINK_OPTIONS, { onReady: () => {}, onLost: () => {}, onPush: () => {} });
      this.#links.set(endpoint, link);
    }
    link.connect();
    return link;
  }
}

/** Peers of a group's leader that nobody has a route to. */
function missingOf(brokerName: string, views: readonly ReplicaView[]): ReplicaView[] {
  const group = views.filter((view) => view.brokerName === brokerName);
  const leaders = group.flatMap(({ status }) => (status?.role === 'leader' ? [status] : []));
  const leader = leaders.toSorted((a, b) => b.term - a.term)[0];
  const unseen = (leader?.peers ?? []).filter(({ replicaId }) => !group.some((view) => view.replicaId === replicaId));
  return unseen.map(({ replicaId }) => ({ brokerName, replicaId, endpoint: '', status: null }));
}

const LINK_OPTIONS: LinkOptions = {
  hello: { clientId: `ledgermq-cli-${process.pid}`, namespace: '', zone: '', agent: 'ledgermq-cli' },
  requestTimeoutMs: CONNECT_TIMEOUT_MS,
  reconnect: { baseMs: 50, factor: 2, capMs: 500, jitter: true },
  keepAliveMs: 5000,
  maxFrameBytes: 64 * 1024 * 1024,
  maxPendingRequests: 1024,
};
