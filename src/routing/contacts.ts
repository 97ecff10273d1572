import type { Clock, Timer } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import { shuffle } from './failure-detector.ts';
import type { MemberTable } from './member-table.ts';
import type { OwnRecord } from './own-record.ts';
import type { HostPort } from './records.ts';

/** While this broker knows nobody, it greets so many at once, so often. */
const LONELY_GREETINGS = 8;
const LONELY_INTERVAL_MS = 200;
/** Afterwards one that is not known to be there: who comes back, or was cut off, is found within some of these. */
const GREETING_INTERVAL_MS = 1_000;

/** Finds the cluster, and finds it again: greets seeds, replicas of the own group, and the dead where they were last. */
export class Contacts {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #members: MemberTable;
  readonly #own: OwnRecord;
  readonly #contacts: () => readonly HostPort[];
  readonly #greet: (to: HostPort) => void;
  #timer: Timer | null = null;
  #lonely = true;

  constructor(
    clock: Clock,
    random: Random,
    members: MemberTable,
    own: OwnRecord,
    contacts: () => readonly HostPort[],
    greet: (to: HostPort) => void,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.#members = members;
    this.#own = own;
    this.#contacts = contacts;
    this.#greet = greet;
  }

  start(): void {
    this.#tick();
  }

  stop(): void {
    if (this.#timer !== null) this.#clock.clearTimer(this.#timer);
    this.#timer = null;
  }

  /** A member spoke. @returns whether it is the first one */
  met(): boolean {
    const first = this.#lonely;
    this.#lonely = false;
    return first;
  }

  /** It is to be met anew. */
  separated(): void {
    this.#lonely = true;
  }

  #tick(): void {
    if ([...this.#members.values()].every(({ state }) => state === 'dead')) this.#lonely = true;
    const absent = this.#absent();
    const count = this.#lonely ? LONELY_GREETINGS : 1;
    shuffle(absent, this.#random, count);
    for (const to of absent.slice(0, count)) this.#greet(to);
    const intervalMs = this.#lonely ? LONELY_INTERVAL_MS : GREETING_INTERVAL_MS;
    this.#timer = this.#clock.setTimer(intervalMs * (0.8 + 0.4 * this.#random.unit()), () => this.#tick());
  }

  #absent(): HostPort[] {
    const present = new Set([nameOf(this.#own.record.address)]);
    const absent = new Map<string, HostPort>();
    const add = (to: HostPort): void => {
      absent.set(nameOf(to), to);
    };
    for (const { record, state, heardFrom } of this.#members.values()) {
      if (this.#lonely || state === 'dead') {
        add(record.address);
        if (heardFrom !== null) add(heardFrom);
      } else {
        present.add(nameOf(record.address));
        if (heardFrom !== null) present.add(nameOf(heardFrom));
      }
    }
    for (const contact of this.#contacts()) add(contact);
    return [...absent].filter(([name]) => !present.has(name)).map(([, to]) => to);
  }
}

function nameOf({ host, port }: HostPort): string {
  return `${host}:${port}`;
}
