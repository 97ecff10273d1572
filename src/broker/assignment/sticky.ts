import { finish, hashOf } from './hash.ts';
import type { AssignableQueue } from './types.ts';

/** How much a queue wants a member, and a member a queue: the same number for both. */
const score = (queueHash: number, memberHash: number): number => finish(Math.imul(queueHash, 0x9e3779b1) ^ memberHash);

/** The queues that a member holds for now, worst on top: a binary heap. */
class Held {
  readonly quota: number;
  readonly queues: number[] = [];
  readonly scores: number[] = [];

  constructor(quota: number) {
    this.quota = quota;
  }

  push(queue: number, value: number): void {
    const { queues, scores } = this;
    let at = queues.length;
    queues.push(queue);
    scores.push(value);
    while (at > 0) {
      const up = (at - 1) >> 1;
      if ((scores[up] as number) <= (scores[at] as number)) break;
      this.#swap(at, up);
      at = up;
    }
  }

  /** Puts a better queue in the place of the worst. @returns the worst */
  replaceWorst(queue: number, value: number): number {
    const { queues, scores } = this;
    const worst = queues[0] as number;
    queues[0] = queue;
    scores[0] = value;
    for (let at = 0; ; ) {
      let least = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < queues.length; child++) {
        if ((scores[child] as number) < (scores[least] as number)) least = child;
      }
      if (least === at) return worst;
      this.#swap(at, least);
      at = least;
    }
  }

  #swap(a: number, b: number): void {
    const { queues, scores } = this;
    const queue = queues[a] as number;
    queues[a] = queues[b] as number;
    queues[b] = queue;
    const value = scores[a] as number;
    scores[a] = scores[b] as number;
    scores[b] = value;
  }
}

/**
 * The sticky strategy (F07): bounded rendezvous hashing. A pure function of the members and the queues, so that the leaders
 * of several broker groups agree without asking each other and without remembering what was before.
 *
 * Each queue wants the member with the highest score; each member takes at most its quota, the best ones. Scores are
 * symmetric, so deferred acceptance (Gale and Shapley, 1962) has one stable outcome, whatever the order of proposals:
 * a change of members moves only what the change displaces. Quotas differ by one at most; who gets the larger ones is
 * drawn by the same hash, topic by topic, so that no member has them all.
 *
 * Cost: about queues · log(members) proposals of one pass over the members each.
 * @param members any order, no duplicates
 * @returns for each queue the index of its member in `members`; empty when there are none
 */
export function assignSticky(topic: string, queues: readonly AssignableQueue[], members: readonly string[]): Int32Array {
  if (members.length === 0) return new Int32Array(0);
  const names = members.map((name, at) => ({ name, at })).sort((a, b) => (a.name < b.name ? -1 : 1));
  const memberHashes = Uint32Array.from(names, ({ name }) => hashOf(name));
  const topicHash = hashOf(topic);
  const brokerHashes = new Map<string, number>();
  const queueHashes = new Uint32Array(queues.length);
  for (let i = 0; i < queues.length; i++) {
    const { brokerName, queueId } = queues[i] as AssignableQueue;
    let brokerHash = brokerHashes.get(brokerName);
    if (brokerHash === undefined) {
      brokerHash = finish(hashOf(brokerName) ^ topicHash);
      brokerHashes.set(brokerName, brokerHash);
    }
    queueHashes[i] = finish(brokerHash + Math.imul(queueId, 0x9e3779b1));
  }
  const held = quotas(topicHash, queues.length, memberHashes).map((quota) => new Held(quota));
  deferredAcceptance(queueHashes, memberHashes, held);
  const owners = new Int32Array(queues.length);
  held.forEach((mine, member) => {
    for (const queue of mine.queues) owners[queue] = (names[member] as { at: number }).at;
  });
  return owners;
}

/** floor(queues / members) each, and one more for those that the topic likes best. */
function quotas(topicHash: number, queues: number, memberHashes: Uint32Array): number[] {
  const count = memberHashes.length;
  const larger = Array.from(memberHashes.keys())
    .sort((a, b) => score(topicHash, memberHashes[b] as number) - score(topicHash, memberHashes[a] as number) || a - b)
    .slice(0, queues % count);
  const result = new Array<number>(count).fill(Math.floor(queues / count));
  for (const member of larger) result[member] = (result[member] as number) + 1;
  return result;
}

function deferredAcceptance(queueHashes: Uint32Array, memberHashes: Uint32Array, held: readonly Held[]): void {
  // Where each queue's last proposal was: the next goes to the best member after it in the order (score down, member up).
  const lastScore = new Float64Array(queueHashes.length).fill(2 ** 32);
  const lastMember = new Int32Array(queueHashes.length).fill(-1);
  for (let start = 0; start < queueHashes.length; start++) {
    let queue = start;
    for (;;) {
      const after = lastScore[queue] as number;
      const afterMember = lastMember[queue] as number;
      let best = -1;
      let bestMember = -1;
      for (let member = 0; member < memberHashes.length; member++) {
        const value = score(queueHashes[queue] as number, memberHashes[member] as number);
        if (value > best && (value < after || (value === after && member > afterMember))) {
          best = value;
          bestMember = member;
        }
      }
      lastScore[queue] = best;
      lastMember[queue] = bestMember;
      // Quotas sum up to the number of queues, so a rejected queue always has a member left to ask.
      const taker = held[bestMember] as Held;
      if (taker.queues.length < taker.quota) {
        taker.push(queue, best);
        break;
      }
      if (taker.quota > 0 && best > (taker.scores[0] as number)) queue = taker.replaceWorst(queue, best);
    }
  }
}
