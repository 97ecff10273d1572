import type { TopicRecord } from '../routing/records.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { StateLimits } from './limits.ts';
import type { StateTable } from './state-table.ts';

type PackedPast = [name: string, incarnation: number, version: number];

/** Of a deleted incarnation every version is past. */
const EVERY_VERSION = Number.MAX_SAFE_INTEGER;

/**
 * Incarnations of topics that ended here and whose tombstones are forgotten. Gossip is memory: when a whole cluster starts again, a
 * replica that has not heard the end of its own log yet tells of the topic as its saved state has it, and without a trace of it here
 * the record would make the topic again, empty. Above the bound the oldest go.
 */
export class PastTopics implements StateTable {
  readonly name = 'pastTopics';
  readonly level = FEATURE_LEVELS.keeping;
  /** The last version that is past; the oldest first. */
  readonly #versions = new Map<string, PackedPast>();

  remember({ name, incarnation, version, deleted }: TopicRecord): void {
    const key = keyOf(name, incarnation);
    this.#versions.delete(key);
    this.#versions.set(key, [name, incarnation, deleted ? EVERY_VERSION : version]);
    if (this.#versions.size <= StateLimits.maxPastTopics) return;
    const [oldest] = this.#versions.keys();
    this.#versions.delete(oldest as string);
  }

  /** Is what the record says over here? A deletion never is: who says it may wait for the word that it was heard. */
  has({ name, incarnation, version, deleted }: TopicRecord): boolean {
    return !deleted && version <= (this.#versions.get(keyOf(name, incarnation))?.[2] ?? 0);
  }

  clear(): void {
    this.#versions.clear();
  }

  pack(): unknown {
    return [...this.#versions.values()];
  }

  unpack(packed: unknown): void {
    for (const past of packed as PackedPast[]) this.#versions.set(keyOf(past[0], past[1]), past);
  }
}

function keyOf(name: string, incarnation: number): string {
  return `${incarnation} ${name}`;
}
