import { Violation } from './violation.ts';

/** Invariant (Raft paper, figure 3, election safety): at most one leader is elected in a term. */
export class LeadersChecker {
  readonly #leaders = new Map<number, number>();

  leads(replicaId: number, term: number): void {
    const other = this.#leaders.get(term);
    if (other !== undefined && other !== replicaId)
      throw new Violation('two leaders', `replicas ${other} and ${replicaId} both lead term ${term}`);
    this.#leaders.set(term, replicaId);
  }

  get terms(): number {
    return this.#leaders.size;
  }
}
