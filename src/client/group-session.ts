import type { Timer } from '../io/clock.ts';
import { LedgerError } from '../protocol/errors.ts';
import { type Assignment, type GroupJoinRequest, Op } from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import type { Link } from './link.ts';

export interface GroupSessionOptions {
  readonly group: string;
  readonly member: string;
  readonly topics: readonly string[];
  readonly heartbeatIntervalMs: number;
  readonly sessionTimeoutMs: number;
  /** How the group's queues are shared out. */
  readonly share: GroupShare;
  /** Takes part in the group's retries. */
  readonly retries: boolean;
}

/** What all members of a group agree on, and what this one wants. */
export type GroupShare = Pick<GroupJoinRequest, 'strategy' | 'queues' | 'brokerZones' | 'machineRooms' | 'filterHash'>;

export interface GroupSessionEvents {
  assigned(session: GroupSession, assignment: Assignment): void;
  failed(session: GroupSession, error: LedgerError): void;
}

/** Between joins that were refused. */
const REJOIN_DELAY_MS = 1_000;

/**
 * Membership at the leader of one broker group: join, heartbeats, assignments. A new leader knows the group from its log and
 * grants every member a full session, so after a change the member only joins again, under the same name, to be reachable.
 */
export class GroupSession {
  readonly brokerName: string;
  readonly #core: ClientCore;
  readonly #options: GroupSessionOptions;
  readonly #events: GroupSessionEvents;
  readonly #forget: () => void;
  #epoch = 0;
  #joinedAt: Link | null = null;
  #joinedGeneration = 0;
  #joining = false;
  #joinAgain = false;
  #heartbeatTimer: Timer | null = null;
  #closed = false;

  constructor(brokerName: string, core: ClientCore, options: GroupSessionOptions, events: GroupSessionEvents) {
    this.brokerName = brokerName;
    this.#core = core;
    this.#options = options;
    this.#events = events;
    this.#forget = core.router.onChange(() => this.#routeChanged());
  }

  get joined(): boolean {
    return this.#joinedAt !== null;
  }

  start(): void {
    this.join();
    this.#armHeartbeat();
  }

  /** Joins, or joins again: after a new leader, an unknown member, a fenced queue. Single flight. */
  join(): void {
    if (this.#closed) return;
    if (this.#joining) {
      this.#joinAgain = true;
      return;
    }
    this.#joining = true;
    this.#joinAgain = false;
    void this.#join();
  }

  /** An assignment out of a push; older ones than what is known are dropped. */
  take(assignment: Assignment): void {
    if (this.#closed || assignment.epoch < this.#epoch) return;
    this.#epoch = assignment.epoch;
    this.#events.assigned(this, assignment);
  }

  /** Says goodbye, so that the queues move at once instead of after the session. */
  async leave(timeoutMs: number): Promise<void> {
    // A join on its way would make us a member after we left; the leave follows it on the same connection.
    const known = this.joined || this.#joining;
    this.#closed = true;
    this.#forget();
    if (this.#heartbeatTimer !== null) this.#core.io.clock.clearTimer(this.#heartbeatTimer);
    if (!known) return;
    const { group, member } = this.#options;
    try {
      await this.#core.askLeader(this.brokerName, Op.groupLeave, { group, member }, timeoutMs);
    } catch {
      // The session ends by itself when the leader hears nothing more.
    }
  }

  async #join(): Promise<void> {
    const { group, member, topics, sessionTimeoutMs, share, retries } = this.#options;
    let delayMs = 0;
    try {
      const request = { group, member, topics, sessionTimeoutMs, ...share, retries };
      const { body } = await this.#core.askLeader(this.brokerName, Op.groupJoin, request, sessionTimeoutMs);
      this.#joinedAt = this.#core.router.leader(this.brokerName);
      this.#joinedGeneration = this.#joinedAt?.generation ?? 0;
      // An answer to a join says what holds now, even if the group was made anew with a lower epoch.
      this.#epoch = 0;
      this.take(body);
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      delayMs = REJOIN_DELAY_MS;
      this.#joinAgain = true;
      if (!this.#closed) this.#events.failed(this, error);
    }
    if (delayMs > 0) await this.#core.sleep(delayMs);
    this.#joining = false;
    if (this.#joinAgain) this.join();
  }

  #routeChanged(): void {
    const link = this.#core.router.leader(this.brokerName);
    if (this.#joinedAt === null || link === null || !link.ready) return;
    // Pushes come over the connection that joined: another leader, or the same one over a new connection, must know us.
    if (link !== this.#joinedAt || link.generation !== this.#joinedGeneration) {
      this.#joinedGeneration = link.generation;
      this.#joinedAt = link;
      this.join();
    }
  }

  #armHeartbeat(): void {
    this.#heartbeatTimer = this.#core.io.clock.setTimer(this.#options.heartbeatIntervalMs, () => {
      this.#heartbeat();
      this.#armHeartbeat();
    });
  }

  #heartbeat(): void {
    const link = this.#core.router.leader(this.brokerName);
    if (!this.joined) return;
    if (!link?.ready) {
      this.#core.router.suspect();
      return;
    }
    const { group, member, heartbeatIntervalMs, retries } = this.#options;
    link.request(Op.groupHeartbeat, { group, member, epoch: this.#epoch, retries }, heartbeatIntervalMs, (error, body) => {
      if (this.#closed) return;
      if (error === null) {
        if (body !== null && body.assignment !== null) this.take(body.assignment);
      } else if (error.code === 'UNKNOWN_MEMBER' || error.code === 'GROUP_NOT_FOUND' || error.code === 'FENCED') this.join();
      else this.#core.router.suspect();
    });
  }
}
