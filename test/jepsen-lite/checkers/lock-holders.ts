import type { HistoryLine } from '../history.ts';
import { type Checker, Findings, type Operation } from './operation.ts';

/** What a handler did in a store that refuses lower fencing tokens; `at` is its place in that store's order. */
interface Effect {
  readonly group: string;
  readonly member: string;
  readonly queue: string;
  readonly token: number;
  readonly offset: number;
  readonly count: number;
  readonly at: number;
}

interface Store {
  token: number;
  /** One past the last offset whose effect was taken. */
  next: number;
  index: number;
}

/**
 * A queue has never two valid owners. A fencing token belongs to one member; and what a store keeps that refuses tokens lower than the
 * highest it has seen is every message's effect, in order: an owner that was replaced can neither write there nor commit, so that its
 * successor never begins behind what the store has.
 */
export class LockHoldersChecker implements Checker {
  readonly name = 'two lock holders';
  readonly #findings = new Findings(this.name);
  readonly #holders = new Map<string, { readonly member: string; readonly index: number }>();
  readonly #effects = new Map<string, { readonly effect: Effect; readonly index: number }[]>();

  operation({ f, type, completed }: Operation): void {
    if (completed === null || type !== 'ok') return;
    if (f === 'poll') {
      const { group, member, polls } = completed.value as {
        group: string;
        member: string;
        polls: readonly { queue: string; token: number }[];
      };
      for (const { queue, token } of polls) this.#held(group, queue, token, member, completed);
    } else if (f === 'effect') {
      const effect = completed.value as Effect;
      this.#held(effect.group, effect.queue, effect.token, effect.member, completed);
      const name = `${effect.group} ${effect.queue}`;
      const effects = this.#effects.get(name) ?? [];
      this.#effects.set(name, effects);
      effects.push({ effect, index: completed.index });
    }
  }

  end() {
    for (const [name, effects] of this.#effects) {
      const store: Store = { token: -1, next: -1, index: -1 };
      for (const { effect, index } of effects.toSorted((a, b) => a.effect.at - b.effect.at)) this.#store(name, store, effect, index);
    }
    return this.#findings.all;
  }

  looked(): string {
    return `${this.#holders.size} tokens, effects in ${this.#effects.size} queues`;
  }

  #held(group: string, queue: string, token: number, member: string, { index }: HistoryLine): void {
    const name = `${group} ${queue} ${token}`;
    const holder = this.#holders.get(name);
    if (holder === undefined) this.#holders.set(name, { member, index });
    else if (holder.member !== member)
      this.#findings.add(`token ${token} of ${queue} in ${group} is held by ${holder.member} and by ${member}`, holder.index, index);
  }

  #store(name: string, store: Store, { token, offset, count, member }: Effect, index: number): void {
    if (token < store.token) return;
    // The first effect of all may lie behind the first message: its members may have begun before the history.
    if (store.next >= 0 && offset > store.next) {
      const text = `${name}: ${member} with token ${token} goes on at ${offset}, the store has effects below ${store.next} only (token ${store.token})`;
      this.#findings.add(text, store.index, index);
    }
    store.token = token;
    store.next = Math.max(store.next, offset + count);
    store.index = index;
  }
}
