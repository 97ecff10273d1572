import { ERRORS, type ErrorCode, errorCodeOf } from '../protocol/errors.ts';

/** What went through a gateway since it began to listen: plain numbers, read by whoever scrapes. */
export class Traffic {
  framesIn = 0;
  framesOut = 0;
  bytesIn = 0;
  bytesOut = 0;
  /** By error number: a closed list. */
  readonly #errors = new Map<number, number>();
  /** Connections turned away or cut off, by reason: a closed list too. */
  readonly refused = new Map<ErrorCode, number>();

  in(sizeBytes: number): void {
    this.framesIn++;
    this.bytesIn += sizeBytes;
  }

  out(sizeBytes: number): void {
    this.framesOut++;
    this.bytesOut += sizeBytes;
  }

  errorCode(code: ErrorCode): void {
    this.error(ERRORS[code].number);
  }

  /** @param number of protocol/errors.ts */
  error(number: number): void {
    this.#errors.set(number, (this.#errors.get(number) ?? 0) + 1);
  }

  refuse(code: ErrorCode): void {
    this.refused.set(code, (this.refused.get(code) ?? 0) + 1);
  }

  *errors(): Generator<readonly [ErrorCode, number]> {
    for (const [number, count] of this.#errors) yield [errorCodeOf(number), count];
  }
}
