import type { Clock } from '../io/clock.ts';
import type { Session } from './session.ts';

interface Member {
  readonly session: Session;
  heardMs: number;
}

/**
 * Which connections a producer group may be asked over: the leader's memory (I7; F14). A new leader hears of them with their next
 * heartbeats. Bounded by `maxMembers`; a connection beyond it is not asked.
 */
export class ProducerSessions {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #maxMembers: number;
  /** The next one to be asked first. */
  readonly #byGroup = new Map<string, Member[]>();
  readonly #groupsOf = new Map<Session, Set<string>>();
  #members = 0;

  /** @param timeoutMs a member that was silent for longer is not asked */
  constructor(clock: Clock, timeoutMs: number, maxMembers: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#maxMembers = maxMembers;
  }

  get size(): number {
    return this.#members;
  }

  /** @returns false at the bound */
  heard(group: string, session: Session): boolean {
    if (session.closed) return true;
    const members = this.#byGroup.get(group) ?? [];
    const known = members.find((member) => member.session === session);
    const heardMs = this.#clock.monotonicMs();
    if (known !== undefined) {
      known.heardMs = heardMs;
      return true;
    }
    if (this.#members >= this.#maxMembers) return false;
    this.#members++;
    members.push({ session, heardMs });
    this.#byGroup.set(group, members);
    const groups = this.#groupsOf.get(session);
    if (groups === undefined) this.#groupsOf.set(session, new Set([group]));
    else groups.add(group);
    return true;
  }

  /** A live member, in turn; null: there is none. */
  pick(group: string): Session | null {
    const members = this.#byGroup.get(group) ?? [];
    const oldestMs = this.#clock.monotonicMs() - this.#timeoutMs;
    for (let i = 0; i < members.length; i++) {
      const member = members.shift() as Member;
      members.push(member);
      if (!member.session.closed && member.heardMs >= oldestMs) return member.session;
    }
    return null;
  }

  left(group: string, session: Session): void {
    const groups = this.#groupsOf.get(session);
    if (groups?.delete(group) !== true) return;
    if (groups.size === 0) this.#groupsOf.delete(session);
    const members = (this.#byGroup.get(group) ?? []).filter((member) => member.session !== session);
    this.#members--;
    if (members.length > 0) this.#byGroup.set(group, members);
    else this.#byGroup.delete(group);
  }

  closed(session: Session): void {
    for (const group of [...(this.#groupsOf.get(session) ?? [])]) this.left(group, session);
  }

  clear(): void {
    this.#byGroup.clear();
    this.#groupsOf.clear();
    this.#members = 0;
  }
}
