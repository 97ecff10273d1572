import { checkDuplicated } from './checkers/duplicated.ts';
import { checkIdentical, type LogBytes } from './checkers/identical.ts';
import { type Acked, checkLost } from './checkers/lost.ts';
import { checkOffsetGap } from './checkers/offset-gap.ts';
import { checkReordered } from './checkers/reordered.ts';
import type { FinalLog } from './checkers/violation.ts';

/** What is judged at the very end, when everything is healed and all replicas are equally far. Throws a Violation. */
export class Verdict {
  /** All queues, as one replica of each group shows them. */
  shown(log: FinalLog, acked: Iterable<Acked>): void {
    checkOffsetGap(log);
    checkDuplicated(log);
    checkReordered(log);
    checkLost(acked, log);
  }

  /** What the replicas of one group have on their disks. */
  stored(logs: readonly LogBytes[]): void {
    checkIdentical(logs);
  }
}
