import type { BrokerConfig } from '../config.ts';
import type { Io } from '../io/io.ts';
import { IdentityLost, LogCorrupt } from '../log/errors.ts';
import { createMeta, loadMeta, type Meta, type MetaPeer, replaceMeta, updateMeta } from '../log/meta.ts';
import { type GroupMembership, memberOf } from '../replica/membership.ts';
import { finishSetAside, setAside } from '../replica/set-aside.ts';

const INCARNATION_BYTES = 16;

/** Recovery met what it must not rely on and cannot mend: what was acknowledged here may be gone, or no replica has it whole any more. */
export function isUnreliable(error: unknown): error is IdentityLost | LogCorrupt {
  return error instanceof IdentityLost || error instanceof LogCorrupt;
}

/** Whose data the directory holds: DIR/meta.json and its changes, one after the other. */
export class DataDirectory {
  readonly #config: BrokerConfig;
  readonly #io: Io;
  readonly #event: (name: string, fields: Readonly<Record<string, string | number>>) => void;
  #meta: Meta | null = null;
  #work: Promise<void> = Promise.resolve();

  constructor(config: BrokerConfig, io: Io, event: (name: string, fields: Readonly<Record<string, string | number>>) => void) {
    this.#config = config;
    this.#io = io;
    this.#event = event;
  }

  /** After identify(). */
  get meta(): Meta {
    return this.#meta as Meta;
  }

  /** Reads meta.json, or makes it in an empty directory. Rejects with LogForeign, LogRefused: the directory is as it was; with a DiskError. */
  async identify(): Promise<void> {
    const { disk } = this.#io;
    const { dataDir, clusterId, brokerName, replicaId } = this.#config;
    const identity = { clusterId, brokerName, replicaId };
    const known = await loadMeta(disk, dataDir, identity);
    if (known === null) this.#meta = await createMeta(disk, dataDir, identity, this.#newIncarnation());
    else this.#meta = await finishSetAside(disk, dataDir, known);
  }

  async formed(formedWith: Readonly<Record<string, string>>): Promise<void> {
    this.#meta = await updateMeta(this.#io.disk, this.#config.dataDir, this.meta, formedWith);
  }

  /** Whom to ask when the log cannot be read at the next start: the log's word, noted beside it. */
  noteOthers(membership: GroupMembership, index: number): void {
    const others = votersBesides(membership, this.#config.replicaId);
    this.#work = this.#work
      .then(async () => {
        if (index === 0 && others.length === 0) return;
        if (index === this.meta.othersAsOf && JSON.stringify(this.meta.others) === JSON.stringify(others)) return;
        this.#meta = await replaceMeta(this.#io.disk, this.#config.dataDir, { ...this.meta, others, othersAsOf: index });
      })
      .catch((error: unknown) => this.#event('other voters not noted', { error: String(error) }));
  }

  /** What lies here is kept aside; from now on the directory is that of a replica under a new incarnation. Rejects as setAside(). */
  async setAside(reason: string): Promise<void> {
    const { disk, clock } = this.#io;
    const why = { reason, wallMs: clock.wallMs() };
    this.#meta = await setAside(disk, this.#config.dataDir, this.meta, this.#newIncarnation(), why);
  }

  /** Resolves when nothing is being written any more. */
  settled(): Promise<void> {
    return this.#work;
  }

  #newIncarnation(): string {
    const bytes = new Uint8Array(INCARNATION_BYTES);
    this.#io.random.fill(bytes);
    return Buffer.from(bytes).toString('hex');
  }
}

/** Whose word counts besides one's own, and where they are found. */
function votersBesides(membership: GroupMembership, ownId: number): MetaPeer[] {
  const ids = [...new Set([...membership.voters, ...(membership.outgoing ?? [])])].filter((id) => id !== ownId).sort((a, b) => a - b);
  return ids.flatMap((id) => {
    const member = memberOf(membership, id);
    return member === undefined ? [] : [{ replicaId: id, host: member.host, port: member.port }];
  });
}
