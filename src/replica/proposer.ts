import type { Clock } from '../io/clock.ts';
import type { ClosedGroup, Log } from '../log/types.ts';
import { encodeMembership, type GroupMembership, membershipChecksum } from './membership.ts';
import { EntryType, type ProposeRefusal } from './types.ts';

/**
 * Groups on their way (closed, not committed) beyond which the open group waits for one of them instead of the end of the turn.
 * So the group size finds itself: an idle broker closes a group per turn (latency), a busy one gathers what arrives during a disk
 * write, and lone small messages don't cost a block each.
 */
export const MAX_GROUPS_IN_FLIGHT = 3;
/** An open group of this size does not wait. */
export const EAGER_CLOSE_BYTES = 256 * 1024;

export interface ProposerPorts {
  readonly clock: Clock;
  readonly log: Log;
  /** Term this replica leads in; 0 when it does not lead or hands leadership over. */
  leadingTerm(): number;
  canPropose(sizeBytes: number): boolean;
  logTimeMs(): number;
  /** Hands a closed group to Raft; the bytes are on their way to the disk already. @param membership of a group that holds one */
  closed(group: ClosedGroup, membership: GroupMembership | null): void;
}

/** Lays proposals into write groups and decides when a group is closed. */
export class Proposer {
  readonly #ports: ProposerPorts;
  /** Last index of each group closed and not committed, oldest first. */
  #inFlight: number[] = [];
  #turnEndAwaited = false;

  constructor(ports: ProposerPorts) {
    this.#ports = ports;
  }

  propose(type: EntryType, topicId: number, queueId: number, bodyChecksum: number, body: Uint8Array): number | ProposeRefusal {
    const { log } = this.#ports;
    if (log.poisoned !== null) return 'poisoned';
    const term = this.#ports.leadingTerm();
    if (term === 0) return 'notLeader';
    if (!this.#ports.canPropose(log.openBytes + body.length)) return 'tooManyUncommitted';
    const index = log.append(type, topicId, queueId, bodyChecksum, body, term, this.#ports.logTimeMs());
    // append() closes a full group by itself. Raft hears of it at once: its write may end before this turn does, and a group that
    // Raft does not know would stay in the log when leadership ends.
    if (log.hasClosed) this.#handOver();
    if (index === 'full') return 'tooManyUncommitted';
    if (index === 'poisoned') return 'poisoned';
    if (!this.#turnEndAwaited) {
      this.#turnEndAwaited = true;
      this.#ports.clock.defer(() => {
        this.#turnEndAwaited = false;
        this.#closeWhenDue();
      });
    }
    return index;
  }

  /** A membership is alone in its group, so that whoever reads the group's header and first entry knows that there is one. */
  proposeMembership(membership: GroupMembership): number | ProposeRefusal {
    const { log } = this.#ports;
    this.flush();
    const term = this.#ports.leadingTerm();
    if (term === 0) return 'notLeader';
    const body = encodeMembership(membership);
    const index = log.append(EntryType.membership, 0, 0, membershipChecksum(body), body, term, this.#ports.logTimeMs());
    if (index === 'full') return 'tooManyUncommitted';
    if (index === 'poisoned') return 'poisoned';
    log.closeGroup();
    this.#handOver(membership);
    return index;
  }

  /** The commit index moved: room for the next group. */
  committed(commitIndex: number): void {
    const before = this.#inFlight.length;
    while (this.#inFlight.length > 0 && (this.#inFlight[0] as number) <= commitIndex) this.#inFlight.shift();
    if (this.#inFlight.length < before) this.#closeWhenDue();
  }

  /** Closes what is open now: before anything that may end this leadership, and for a new leader's no-op. */
  flush(): void {
    const { log } = this.#ports;
    if (this.#ports.leadingTerm() === 0) {
      log.discardOpen();
      return;
    }
    log.closeGroup();
    this.#handOver();
  }

  /** Leadership ended: what is open was shown to nobody. */
  reset(): void {
    this.#ports.log.discardOpen();
    this.#inFlight = [];
  }

  /** @param membership of the newest closed group */
  #handOver(membership: GroupMembership | null = null): void {
    const closed = this.#ports.log.takeClosed();
    closed.forEach((group, at) => {
      this.#inFlight.push(group.meta.lastIndex);
      this.#ports.closed(group, at === closed.length - 1 ? membership : null);
    });
  }

  #closeWhenDue(): void {
    const { openBytes } = this.#ports.log;
    if (openBytes === 0) return;
    if (this.#inFlight.length >= MAX_GROUPS_IN_FLIGHT && openBytes < EAGER_CLOSE_BYTES) return;
    this.flush();
  }
}
