import { equalBytes } from '../base/bytes.ts';
import type { DatagramSender } from './datagram.ts';
import type { OwnBrokerChange } from './gossip-port.ts';
import { encodeBroker } from './record-codec.ts';
import { type BrokerRecord, brokerKeyOf } from './records.ts';

/** Versions of one boot; a million changes later the next generation begins by itself. */
const VERSIONS_PER_GENERATION = 2 ** 20;
/** Versions stay below 2^53. */
export const MAX_GENERATION = 2 ** 32;

/** The broker's own record: nobody else makes a version of it. */
export class OwnRecord {
  readonly key: string;
  readonly #changed: (outrun: boolean) => void;
  #record: BrokerRecord;
  #bytes: Uint8Array;

  constructor(record: Omit<BrokerRecord, 'version'>, generation: number, changed: (outrun: boolean) => void) {
    if (!(Number.isSafeInteger(generation) && generation >= 1 && generation < MAX_GENERATION)) {
      throw new RangeError(`generation ${generation}`);
    }
    this.key = brokerKeyOf(record);
    this.#changed = changed;
    this.#record = { ...record, version: generation * VERSIONS_PER_GENERATION };
    this.#bytes = encodeBroker(this.#record);
  }

  get record(): BrokerRecord {
    return this.#record;
  }
  get bytes(): Uint8Array {
    return this.#bytes;
  }
  get generation(): number {
    return Math.floor(this.#record.version / VERSIONS_PER_GENERATION);
  }
  /** As it stands in a datagram's header. */
  get sender(): DatagramSender {
    const { brokerName, replicaId, version } = this.#record;
    return { brokerName, replicaId, version, generation: this.generation };
  }

  change(change: OwnBrokerChange): void {
    const next = { ...this.#record, ...change };
    if (equalBytes(encodeBroker(next), this.#bytes)) return;
    this.#next({ ...next, version: this.#record.version + 1 }, false);
  }

  /** A new version of the same: others may hold this one to be dead. */
  renew(): void {
    this.#next({ ...this.#record, version: this.#record.version + 1 }, false);
  }

  /** Somebody says that this broker is gone. @returns whether a new version had to be made */
  refute(version: number): boolean {
    if (version < this.#record.version) return false;
    this.#next({ ...this.#record, version: version + 1 }, this.#generationOf(version + 1) > this.generation);
    return true;
  }

  /**
   * The own record was heard. A higher version than any of this boot is of a former life whose directory is lost, or of another
   * process under this identity. @returns the same version came with another body
   */
  outrun(version: number, bytes: Uint8Array): boolean {
    if (version < this.#record.version) return false;
    const same = version === this.#record.version;
    if (same && equalBytes(bytes, this.#bytes)) return false;
    this.#next({ ...this.#record, version: version + 1 }, this.#generationOf(version + 1) > this.generation);
    return same;
  }

  #generationOf(version: number): number {
    return Math.floor(version / VERSIONS_PER_GENERATION);
  }

  #next(record: BrokerRecord, outrun: boolean): void {
    this.#record = record;
    this.#bytes = encodeBroker(record);
    this.#changed(outrun);
  }
}
