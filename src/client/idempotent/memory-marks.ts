import type { Clock } from '../../io/clock.ts';
import { nodeIo } from '../../io/node/io.ts';
import { LedgerError } from '../../protocol/errors.ts';
import type { Claim, MarkStore } from './marks.ts';

interface Mark {
  /** null: done. */
  readonly owner: string | null;
  readonly endsAtMs: number;
}

/**
 * Marks in this process's memory: for tests, and for a single consumer whose work may be done twice after a restart. Other members of
 * the group do not see them. At most `maxMarks`; above that the oldest done one is forgotten, and its message would be handled again.
 */
export class MemoryMarks implements MarkStore {
  readonly #clock: Clock;
  readonly #maxMarks: number;
  /** Each in the order in which it was set: of the done ones the first is the oldest. */
  readonly #done = new Map<string, Mark>();
  readonly #claims = new Map<string, Mark>();

  constructor(options: { readonly maxMarks?: number; readonly clock?: Clock } = {}) {
    this.#maxMarks = options.maxMarks ?? 100_000;
    this.#clock = options.clock ?? nodeIo().clock;
    if (!(this.#maxMarks >= 1)) throw new LedgerError('BAD_REQUEST', `maxMarks is at least 1: ${this.#maxMarks}`);
  }

  /** Marks and claims held now. */
  get size(): number {
    return this.#done.size + this.#claims.size;
  }

  /** @throws LedgerError TOO_MANY when all marks are claims of work that runs */
  async claim(mark: string, owner: string, leaseMs: number): Promise<Claim> {
    if (this.#alive(this.#done, mark) !== null) return 'done';
    const held = this.#alive(this.#claims, mark);
    if (held !== null && held.owner !== owner) return 'busy';
    this.#claims.delete(mark);
    this.#makeRoom();
    this.#claims.set(mark, { owner, endsAtMs: this.#clock.monotonicMs() + leaseMs });
    return 'claimed';
  }

  async renew(mark: string, owner: string, leaseMs: number): Promise<boolean> {
    if (this.#alive(this.#claims, mark)?.owner !== owner) return false;
    this.#claims.set(mark, { owner, endsAtMs: this.#clock.monotonicMs() + leaseMs });
    return true;
  }

  async complete(mark: string, retainMs: number): Promise<void> {
    this.#claims.delete(mark);
    this.#done.delete(mark);
    this.#makeRoom();
    this.#done.set(mark, { owner: null, endsAtMs: this.#clock.monotonicMs() + retainMs });
  }

  async release(mark: string, owner: string): Promise<void> {
    if (this.#claims.get(mark)?.owner === owner) this.#claims.delete(mark);
  }

  #alive(marks: Map<string, Mark>, mark: string): Mark | null {
    const found = marks.get(mark);
    if (found === undefined) return null;
    if (found.endsAtMs > this.#clock.monotonicMs()) return found;
    marks.delete(mark);
    return null;
  }

  #makeRoom(): void {
    if (this.size < this.#maxMarks) return;
    const [oldest] = this.#done.keys();
    if (oldest !== undefined) this.#done.delete(oldest);
    else for (const mark of [...this.#claims.keys()]) this.#alive(this.#claims, mark);
    if (this.size >= this.#maxMarks) throw new LedgerError('TOO_MANY', `${this.size} claims are held, and no mark can be forgotten`);
  }
}
