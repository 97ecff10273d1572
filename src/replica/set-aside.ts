import type { Disk } from '../io/disk.ts';
import { LogRefused } from '../log/errors.ts';
import { type Meta, replaceMeta } from '../log/meta.ts';

const DIRECTORY = 'set-aside';
const REASON = 'reason.json';
/**
 * Former contents that one data directory keeps, at most. While there is room nobody but an operator removes them: a replica that would need
 * a third place stops instead, because something is wrong with its machine that beginning anew does not mend.
 */
export const MAX_SET_ASIDE = 2;
/** What stays where it is: who this is now, its word among the brokers, and what was set aside before. */
const STAYS: ReadonlySet<string> = new Set(['meta.json', 'meta.json.tmp', 'gossip-generation', 'lost+found', DIRECTORY]);

export interface SetAside {
  /** Why the contents are not relied upon. */
  readonly reason: string;
  readonly wallMs: number;
}

/** Names below DIR/set-aside: incarnations. */
export function listSetAside(disk: Disk, dataDirectory: string): Promise<string[]> {
  return disk.list(`${dataDirectory}/${DIRECTORY}`);
}

/**
 * Moves what the directory holds to DIR/set-aside/<its incarnation>, next to a note that says why, and makes the directory that of a
 * replica under a new incarnation, which the group was formed without (I5). First the new meta.json, in one rename: from then on
 * nothing that lies here is this replica's any more, and a start that comes after a crash finishes the move.
 * Rejects with LogRefused at MAX_SET_ASIDE, with a DiskError.
 */
export async function setAside(disk: Disk, dataDirectory: string, meta: Meta, incarnation: string, why: SetAside): Promise<Meta> {
  const kept = await listSetAside(disk, dataDirectory);
  if (kept.length >= MAX_SET_ASIDE && !kept.includes(meta.incarnation)) {
    throw new LogRefused(
      `${dataDirectory}/${DIRECTORY} holds ${kept.length} former contents already: look at why, remove them, and start again`,
    );
  }
  const target = `${dataDirectory}/${DIRECTORY}/${meta.incarnation}`;
  await disk.mkdir(target);
  await writeFile(disk, target, 'meta.json', meta);
  await writeFile(disk, target, REASON, { reason: why.reason, wallMs: why.wallMs });
  const next = await replaceMeta(disk, dataDirectory, { ...meta, incarnation, setAside: meta.incarnation });
  return finishSetAside(disk, dataDirectory, next);
}

/** Again is fine. Rejects with a DiskError. */
export async function removeSetAside(disk: Disk, dataDirectory: string, incarnation: string): Promise<void> {
  await disk.remove(`${dataDirectory}/${DIRECTORY}/${incarnation}`);
  await disk.syncDirectory(`${dataDirectory}/${DIRECTORY}`);
}

/** The rest of a move that a crash cut short; nothing to do otherwise. */
export async function finishSetAside(disk: Disk, dataDirectory: string, meta: Meta): Promise<Meta> {
  if (meta.setAside === undefined) return meta;
  const target = `${dataDirectory}/${DIRECTORY}/${meta.setAside}`;
  await disk.mkdir(target);
  for (const name of await disk.list(dataDirectory)) {
    if (!STAYS.has(name)) await disk.rename(`${dataDirectory}/${name}`, `${target}/${name}`);
  }
  await disk.syncDirectory(target);
  await disk.syncDirectory(dataDirectory);
  const { setAside: _done, ...rest } = meta;
  return replaceMeta(disk, dataDirectory, rest);
}

async function writeFile(disk: Disk, directory: string, name: string, value: object): Promise<void> {
  const path = `${directory}/${name}`;
  await disk.remove(path);
  const file = await disk.open(path, { access: 'readwrite', create: true });
  try {
    await file.write(new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`), 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.syncDirectory(directory);
}
