import { linearizable, type Model, type TimedOperation } from './linearizable.ts';
import { type Checker, Findings, type Operation } from './operation.ts';

/** A topic on one broker group. */
export interface TopicState {
  readonly queues: number;
  readonly perm: number;
}

/** As in the history: what was asked for, and for `describe` what was found. */
export interface TopicOperation {
  readonly f: 'create' | 'update' | 'delete' | 'describe';
  readonly queues?: number;
  readonly perm?: number;
  readonly found?: TopicState | null;
}

/** create: there is none, or one as wanted · update: changes one that is there · delete: none after it, and again is fine · describe: as it is. */
export const TOPIC_MODEL: Model<TopicState | null, TopicOperation> = {
  initial: null,
  step(state, { f, queues, perm, found }) {
    switch (f) {
      case 'create': {
        const wanted = { queues: queues as number, perm: perm as number };
        return state === null || (state.queues === wanted.queues && state.perm === wanted.perm) ? wanted : undefined;
      }
      case 'update':
        return state === null || (queues ?? state.queues) < state.queues
          ? undefined
          : { queues: queues ?? state.queues, perm: perm ?? state.perm };
      case 'delete':
        return null;
      case 'describe':
        return found === undefined || this.key(found) === this.key(state) ? state : undefined;
    }
  },
  key: (state) => (state === null ? 'none' : `${state.queues} ${state.perm}`),
};

const TOPIC_FS: ReadonlySet<string> = new Set(['create', 'update', 'delete', 'describe']);

interface Timed extends TimedOperation<TopicOperation> {
  readonly indexes: readonly number[];
}

/** The metadata of each topic on each broker group is linearizable. Topics are independent, so each is judged alone (Herlihy, Wing: locality). */
export class TopicMetadataChecker implements Checker {
  readonly name = 'linearizable topic metadata';
  readonly #topics = new Map<string, Timed[]>();
  /** Topics whose search reached its bound. */
  readonly unknown: string[] = [];
  topics = 0;
  operations = 0;

  operation({ f, type, invoked, completed }: Operation): void {
    // A question without an answer says nothing.
    if (!TOPIC_FS.has(f) || type === 'fail' || (f === 'describe' && type === 'info')) return;
    const { topic, broker, ...said } = (type === 'ok' && completed !== null ? completed.value : invoked.value) as {
      topic: string;
      broker: string;
    };
    const name = `${topic} on ${broker}`;
    const operations = this.#topics.get(name) ?? [];
    this.#topics.set(name, operations);
    const maybe = type === 'info';
    const indexes = completed === null ? [invoked.index] : [invoked.index, completed.index];
    operations.push({
      operation: { f, ...said } as TopicOperation,
      invokedAt: invoked.time,
      completedAt: maybe ? Number.POSITIVE_INFINITY : (completed?.time as number),
      maybe,
      indexes,
    });
  }

  end() {
    const findings = new Findings(this.name);
    for (const [name, operations] of this.#topics) {
      this.topics++;
      this.operations += operations.length;
      const { verdict, longest } = linearizable(TOPIC_MODEL, operations);
      if (verdict === 'unknown') this.unknown.push(name);
      if (verdict !== 'not linearizable') continue;
      const ordered = new Set(longest);
      const stuck = operations.findIndex((operation, at) => !ordered.has(at) && !operation.maybe);
      const { operation, indexes } = operations[stuck] as Timed;
      const state = longest.reduce<TopicState | null>(
        (before, at) => TOPIC_MODEL.step(before, (operations[at] as Timed).operation) ?? null,
        null,
      );
      const text = `${name}: no order of ${operations.length} operations explains them; the longest one leaves ${JSON.stringify(state)}, and then ${JSON.stringify(operation)}`;
      findings.add(text, ...indexes);
    }
    return findings.all;
  }

  looked(): string {
    return `${this.operations} operations on ${this.topics} topics`;
  }
}
