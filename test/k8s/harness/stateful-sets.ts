import { createHash } from 'node:crypto';
import type { StatefulSet } from '../objects.ts';

/** What the controller goes by. */
export interface PodView {
  readonly ordinal: number;
  readonly revision: string;
  readonly isReady: boolean;
  readonly isAvailable: boolean;
  readonly isTerminating: boolean;
}

export interface Step {
  readonly create: readonly number[];
  readonly remove: readonly number[];
}

/** Of the template alone: scaling makes no new revision. */
export function revisionOf(set: StatefulSet): string {
  return createHash('sha256').update(JSON.stringify(set.spec.template)).digest('hex').slice(0, 10);
}

/**
 * What Kubernetes' StatefulSet controller does next. `OrderedReady`: pods are made in order, each when all before it are ready, and
 * taken away from the last one on, one at a time; `Parallel`: all at once. A rolling update goes from the highest ordinal down to the
 * partition: the next one when all above it have the new template and are available.
 */
export function nextStep(set: StatefulSet, pods: readonly PodView[]): Step {
  const { replicas, podManagementPolicy = 'OrderedReady', updateStrategy } = set.spec;
  const ordered = podManagementPolicy === 'OrderedReady';
  const at = (ordinal: number): PodView | undefined => pods.find((pod) => pod.ordinal === ordinal);
  const create: number[] = [];
  for (let ordinal = 0; ordinal < replicas; ordinal++) {
    const pod = at(ordinal);
    if (pod === undefined) create.push(ordinal);
    if (ordered && !pod?.isReady) return { create, remove: [] };
  }
  if (create.length > 0) return { create, remove: [] };

  const beyond = pods.filter(({ ordinal }) => ordinal >= replicas).toSorted((a, b) => b.ordinal - a.ordinal);
  if (beyond.length > 0) {
    const due = ordered ? beyond.slice(0, 1) : beyond;
    return { create, remove: due.filter(({ isTerminating }) => !isTerminating).map(({ ordinal }) => ordinal) };
  }

  if (updateStrategy.type !== 'RollingUpdate') return { create, remove: [] };
  const revision = revisionOf(set);
  for (let ordinal = replicas - 1; ordinal >= (updateStrategy.rollingUpdate?.partition ?? 0); ordinal--) {
    const pod = at(ordinal) as PodView;
    if (pod.revision !== revision) return { create, remove: pod.isTerminating ? [] : [ordinal] };
    if (!pod.isAvailable) break;
  }
  return { create, remove: [] };
}
