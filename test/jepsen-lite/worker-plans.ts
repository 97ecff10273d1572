/** How many clients of each workload a run has, and how fast each sends: one machine carries them, three replicas and the faults. */
export interface WorkerPlan {
  readonly workload: string;
  /** Of this worker among those of its workload. */
  readonly id: number;
  /** Messages per second at most: disk and memory bound a run; null: the workload's own rate. */
  readonly rate: number | null;
}

const COUNTS: Readonly<Record<string, number>> = { fifo: 2, offsets: 1, transactions: 1, delay: 1, rebalance: 1, metadata: 1 };
/** Of the bench's throughput, by all of them: enough to be held against it, and room for replicas that catch up. */
const FIFO_SHARE = 0.35;
const MAX_FIFO_MESSAGES_PER_S = 5_000;

export const WORKLOADS: readonly string[] = Object.keys(COUNTS);

export function workerPlans(workloads: readonly string[], benchMsgsPerS: number): WorkerPlan[] {
  const fifo = Math.ceil(Math.min(MAX_FIFO_MESSAGES_PER_S, benchMsgsPerS * FIFO_SHARE) / (COUNTS['fifo'] ?? 1));
  return workloads.flatMap((workload) =>
    Array.from({ length: COUNTS[workload] ?? 0 }, (_, id) => ({ workload, id, rate: workload === 'fifo' ? fifo : null })),
  );
}
