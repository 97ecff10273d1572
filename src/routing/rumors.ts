/** Rumors that wait; beyond it the one that was told longest ago is dropped: anti-entropy repairs what was missed. */
export const MAX_RUMORS = 4_096;
/** Times that a rumor is told is this times log2 of the members: 15 among 30, of which 12 arrive when a fifth is lost. */
const RETRANSMIT_FACTOR = 3;
/** A datagram is full when so many rumors did not fit into what is left. */
const MAX_MISSES = 3;

interface Rumor {
  readonly kind: number;
  readonly bytes: Uint8Array;
  /** Rides on probes; nothing is sent for its sake. */
  readonly lazy: boolean;
  told: number;
}

/** How often each broker tells a rumor. */
export function retransmitLimit(members: number): number {
  return RETRANSMIT_FACTOR * Math.max(1, Math.ceil(Math.log2(members + 1)));
}

/** News that rides on every datagram until it was told often enough: the least told first. */
export class Rumors {
  readonly #fresh = new Map<string, Rumor>();
  /** In the order in which they were last told. */
  readonly #told = new Map<string, Rumor>();
  #eager = 0;
  dropped = 0;

  get size(): number {
    return this.#fresh.size + this.#told.size;
  }

  /** Some are worth a datagram of their own. */
  get urgent(): boolean {
    return this.#eager > 0;
  }

  /** Takes the place of what was told under this key before. */
  add(key: string, kind: number, bytes: Uint8Array, lazy: boolean): void {
    this.delete(key);
    if (this.size >= MAX_RUMORS) this.#dropOne();
    this.#fresh.set(key, { kind, bytes, lazy, told: 0 });
    if (!lazy) this.#eager++;
  }

  delete(key: string): void {
    const rumor = this.#fresh.get(key) ?? this.#told.get(key);
    if (rumor === undefined) return;
    this.#fresh.delete(key);
    this.#told.delete(key);
    if (!rumor.lazy) this.#eager--;
  }

  clear(): void {
    this.#fresh.clear();
    this.#told.clear();
    this.#eager = 0;
  }

  /**
   * Fills a datagram that goes to `targets` brokers.
   * @param put @returns false: no room for these bytes
   */
  fill(targets: number, limit: number, put: (kind: number, bytes: Uint8Array) => boolean): void {
    // What is told now goes to the end of #told: the pass is over what was there before.
    const told = this.#told.size;
    this.#pass(this.#fresh, this.#fresh.size, targets, limit, put);
    this.#pass(this.#told, told, targets, limit, put);
  }

  #pass(from: Map<string, Rumor>, count: number, targets: number, limit: number, put: (kind: number, bytes: Uint8Array) => boolean): void {
    let left = count;
    let misses = 0;
    for (const [key, rumor] of from) {
      if (left-- === 0 || misses === MAX_MISSES) return;
      if (!put(rumor.kind, rumor.bytes)) {
        misses++;
        continue;
      }
      from.delete(key);
      rumor.told += targets;
      if (rumor.told < limit) this.#told.set(key, rumor);
      else if (!rumor.lazy) this.#eager--;
    }
  }

  #dropOne(): void {
    const key = (this.#told.keys().next().value ?? this.#fresh.keys().next().value) as string;
    this.delete(key);
    this.dropped++;
  }
}
