import type { Effects, GroupMeta, HardState, Message, Role, StoreEffect } from './types.ts';

const NO_MESSAGES: readonly Message[] = Object.freeze([]);
const NO_STORE: readonly StoreEffect[] = Object.freeze([]);
const NO_READS: Effects['reads'] = Object.freeze([]);

/** Gathers what is to be carried out until the driver takes it. */
export class Outbox {
  messages: Message[] = [];
  store: StoreEffect[] = [];
  reads: { readonly context: number; readonly index: number | null }[] = [];
  install: Effects['install'] = null;

  #term: number;
  #votedFor: number;
  #commitIndex: number;
  #role: Role = 'follower';
  #roleTerm: number;
  #leader = 0;

  /** What the driver knows already: the core reports changes only. */
  constructor(hardState: HardState, commitIndex: number) {
    this.#term = hardState.term;
    this.#roleTerm = hardState.term;
    this.#votedFor = hardState.votedFor;
    this.#commitIndex = commitIndex;
  }

  toStore(truncateFrom: number | null, groups: readonly GroupMeta[]): void {
    this.store.push({ truncateFrom, groups });
  }

  take(term: number, votedFor: number, commitIndex: number, role: Role, leader: number): Effects {
    const hardState = term !== this.#term || votedFor !== this.#votedFor ? { term, votedFor } : null;
    const roleChange = role !== this.#role || term !== this.#roleTerm || leader !== this.#leader ? { role, term, leader } : null;
    const effects: Effects = {
      hardState,
      store: this.store.length > 0 ? this.store : NO_STORE,
      messages: this.messages.length > 0 ? this.messages : NO_MESSAGES,
      commitIndex: commitIndex !== this.#commitIndex ? commitIndex : null,
      reads: this.reads.length > 0 ? this.reads : NO_READS,
      roleChange,
      install: this.install,
    };
    if (this.store.length > 0) this.store = [];
    if (this.messages.length > 0) this.messages = [];
    if (this.reads.length > 0) this.reads = [];
    this.install = null;
    this.#term = term;
    this.#votedFor = votedFor;
    this.#commitIndex = commitIndex;
    this.#role = role;
    this.#roleTerm = term;
    this.#leader = leader;
    return effects;
  }
}
