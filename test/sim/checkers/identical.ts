import { Violation } from './violation.ts';

/** A replica's committed log: the bytes of [startPosition, startPosition + bytes.length). */
export interface LogBytes {
  readonly replicaId: number;
  readonly startPosition: number;
  readonly bytes: Uint8Array;
}

/** Invariant (I1): the committed bytes of the replicas are equal wherever two of them hold the same positions. */
export function checkIdentical(logs: readonly LogBytes[]): void {
  for (const a of logs) {
    for (const b of logs) {
      if (b.replicaId <= a.replicaId) continue;
      const start = Math.max(a.startPosition, b.startPosition);
      const end = Math.min(a.startPosition + a.bytes.length, b.startPosition + b.bytes.length);
      if (end <= start) continue;
      const of = (log: LogBytes): Uint8Array => log.bytes.subarray(start - log.startPosition, end - log.startPosition);
      if (Buffer.compare(of(a), of(b)) === 0) continue;
      const at = of(a).findIndex((byte, index) => byte !== of(b)[index]);
      throw new Violation('not identical', `replicas ${a.replicaId} and ${b.replicaId} differ at position ${start + at}`);
    }
  }
}
