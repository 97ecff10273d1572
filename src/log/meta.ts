import type { Disk } from '../io/disk.ts';
import { DiskError } from '../io/disk.ts';
import { LogForeign, LogRefused } from './errors.ts';

/** DIR/meta.json: whose data this is (I5). Written before the replica says its first word, and when the group is formed. */
export interface Meta {
  readonly formatVersion: number;
  readonly clusterId: string;
  readonly brokerName: string;
  readonly replicaId: number;
  /** Random; made with the directory. */
  readonly incarnation: string;
  /** replica id → incarnation at formation; null until the group is formed as far as this replica knows. */
  readonly formedWith: Readonly<Record<string, string>> | null;
  /** Voters of the group besides this one, as last known: whom to ask when the log that names them cannot be read. Missing: as configured. */
  readonly others?: readonly MetaPeer[];
  /** Index of the membership that names `others`; missing: not noted. */
  readonly othersAsOf?: number;
  /** What still lies here is that of the replica under this former incarnation, and is being moved away (src/replica/set-aside.ts). */
  readonly setAside?: string;
}

export interface MetaPeer {
  readonly replicaId: number;
  readonly host: string;
  /** Client port. */
  readonly port: number;
}

/** Who this replica is by its configuration. */
export type MetaIdentity = Pick<Meta, 'clusterId' | 'brokerName' | 'replicaId'>;

export const META_FORMAT_VERSION = 1;
/** While former contents are moved away. A release that does not know of it would take them for its own, so it must not read this. */
const MOVING_FORMAT_VERSION = 2;
const NAME = 'meta.json';
const TEMPORARY = 'meta.json.tmp';
/** What an empty directory may hold: a creation that was cut short, and what file systems put into their root. */
const NOT_DATA = new Set([TEMPORARY, 'lost+found']);
/** Bound: a meta.json that is larger is not ours. */
const MAX_META_BYTES = 64 * 1024;

/**
 * Reads DIR/meta.json and checks that the directory belongs to this replica. Changes nothing.
 * @returns null when the directory is missing or empty: then createMeta() may be called
 * Rejects with LogForeign when it belongs to somebody else (another format, cluster, brokerName or replica id, or data
 * without a meta.json), with LogRefused when meta.json is damaged, with a DiskError.
 */
export async function loadMeta(disk: Disk, directory: string, identity: MetaIdentity): Promise<Meta | null> {
  const names = await disk.list(directory);
  if (!names.includes(NAME)) {
    const data = names.filter((name) => !NOT_DATA.has(name));
    if (data.length === 0) return null;
    throw new LogForeign(
      `${directory} is not empty (${data.slice(0, 5).join(', ')}) and has no ${NAME}: not a data directory of this program`,
    );
  }
  const meta = parse(await readText(disk, `${directory}/${NAME}`), directory);
  const format = meta.setAside === undefined ? META_FORMAT_VERSION : MOVING_FORMAT_VERSION;
  if (meta.formatVersion !== format) {
    throw new LogForeign(`${directory} has format ${meta.formatVersion}, this version reads format ${format}`);
  }
  for (const field of ['clusterId', 'brokerName', 'replicaId'] as const) {
    if (meta[field] !== identity[field]) {
      throw new LogForeign(
        `${directory} belongs to ${field} ${JSON.stringify(meta[field])}, this replica has ${JSON.stringify(identity[field])}`,
      );
    }
  }
  return meta;
}

/** Makes the directory and its meta.json, durably. Only after loadMeta() gave null. Rejects with a DiskError. */
export async function createMeta(disk: Disk, directory: string, identity: MetaIdentity, incarnation: string): Promise<Meta> {
  const { clusterId, brokerName, replicaId } = identity;
  const meta: Meta = { formatVersion: META_FORMAT_VERSION, clusterId, brokerName, replicaId, incarnation, formedWith: null };
  await disk.mkdir(directory);
  await write(disk, directory, meta);
  return meta;
}

/** Records the formation, durably, before it is spoken of. Fields that this version does not know are kept. Rejects with a DiskError. */
export function updateMeta(disk: Disk, directory: string, meta: Meta, formedWith: Readonly<Record<string, string>>): Promise<Meta> {
  return replaceMeta(disk, directory, { ...meta, formedWith });
}

/** In one rename, durably. Rejects with a DiskError. */
export async function replaceMeta(disk: Disk, directory: string, meta: Meta): Promise<Meta> {
  const formatVersion = meta.setAside === undefined ? META_FORMAT_VERSION : MOVING_FORMAT_VERSION;
  const updated: Meta = { ...meta, formatVersion };
  await write(disk, directory, updated);
  return updated;
}

async function write(disk: Disk, directory: string, meta: Meta): Promise<void> {
  const temporary = `${directory}/${TEMPORARY}`;
  await disk.remove(temporary);
  const file = await disk.open(temporary, { access: 'readwrite', create: true });
  try {
    await file.write(Buffer.from(`${JSON.stringify(meta, null, 2)}\n`), 0);
    // The name must never point at bytes that a crash could take.
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, `${directory}/${NAME}`);
  await disk.syncDirectory(directory);
}

async function readText(disk: Disk, path: string): Promise<string> {
  const file = await disk.open(path, { access: 'read' });
  try {
    const sizeBytes = await file.sizeBytes();
    if (sizeBytes > MAX_META_BYTES) throw new LogRefused(`${path} has ${sizeBytes} bytes: not a ${NAME}`);
    const bytes = Buffer.alloc(sizeBytes);
    if ((await file.read(bytes, 0)) !== sizeBytes) throw new DiskError('EIO', 'read', path);
    return bytes.toString();
  } finally {
    await file.close();
  }
}

function parse(text: string, directory: string): Meta {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new LogRefused(`${directory}/${NAME} is damaged: ${(error as Error).message}`);
  }
  if (!isMeta(value)) throw new LogRefused(`${directory}/${NAME} is damaged: a field is missing or has another type`);
  return value;
}

function isMeta(value: unknown): value is Meta {
  if (typeof value !== 'object' || value === null) return false;
  const { formatVersion, clusterId, brokerName, replicaId, incarnation, formedWith, others, othersAsOf, setAside } = value as Record<
    string,
    unknown
  >;
  if (setAside !== undefined && (typeof setAside !== 'string' || setAside === '')) return false;
  if (others !== undefined && (!Array.isArray(others) || !others.every(isPeer))) return false;
  if (othersAsOf !== undefined && !Number.isSafeInteger(othersAsOf)) return false;
  const texts = [clusterId, brokerName, incarnation].every((text) => typeof text === 'string' && text !== '');
  return texts && Number.isSafeInteger(formatVersion) && Number.isSafeInteger(replicaId) && isFormation(formedWith);
}

function isPeer(value: unknown): value is MetaPeer {
  if (typeof value !== 'object' || value === null) return false;
  const { replicaId, host, port } = value as Record<string, unknown>;
  return Number.isSafeInteger(replicaId) && typeof host === 'string' && Number.isSafeInteger(port);
}

function isFormation(value: unknown): boolean {
  if (value === null) return true;
  return typeof value === 'object' && !Array.isArray(value) && Object.values(value as object).every((one) => typeof one === 'string');
}
