import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { Prng } from '../../sim/prng.ts';

const MAGIC = 0x31554d4cn;
const ARENA_HEADER_BYTES = 4096;
const RECORD_HEADER_BYTES = 72;
const HEAD_AT = 16;
const TAIL_AT = 24;
const BLOCK_BYTES = 4096;
const KINDS = ['pad', 'write', 'truncate', 'create', 'rename', 'unlink'] as const;
const STATE_FREE = 0;
/** On the volume: hard links that keep files whose names were taken away. */
const LINKS = '.undo';

/** Something that was done and not synced, with what was there before. */
export interface UnsyncedChange {
  readonly kind: (typeof KINDS)[number];
  readonly sequence: number;
  /** Of the file; of the directory for names. */
  readonly inode: bigint;
  readonly offset: number;
  readonly oldLength: number;
  readonly oldData: Buffer;
  readonly paths: readonly string[];
  readonly link: number;
}

/** How much of what was not synced is gone: everything, or what chance takes of it. */
export type Loss = 'all' | 'some';

export interface PowerLoss {
  /** Changes of files that were reverted, in part at least. */
  readonly changes: number;
  readonly bytes: number;
  readonly names: number;
}

/** Reads the records of shim.c, oldest first. The process that wrote them must be gone. */
export function readUnsynced(arenaPath: string): UnsyncedChange[] {
  const arena = readFileSync(arenaPath);
  const u53 = (at: number): number => Number(arena.readBigUInt64LE(at));
  if (arena.readBigUInt64LE(0) !== MAGIC) return [];
  const size = u53(8);
  const changes: UnsyncedChange[] = [];
  for (let position = u53(TAIL_AT); position < u53(HEAD_AT); ) {
    const at = ARENA_HEADER_BYTES + (position % size);
    const kind = KINDS[arena.readUInt32LE(at + 4)] ?? 'pad';
    if (kind !== 'pad' && arena.readUInt32LE(at + 8) !== STATE_FREE) {
      const pathsAt = at + RECORD_HEADER_BYTES;
      const dataAt = pathsAt + arena.readUInt32LE(at + 12);
      changes.push({
        kind,
        sequence: u53(at + 16),
        inode: arena.readBigUInt64LE(at + 32),
        offset: u53(at + 40),
        oldLength: u53(at + 48),
        oldData: Buffer.from(arena.subarray(dataAt, dataAt + u53(at + 56))),
        paths: arena.toString('utf8', pathsAt, dataAt).split('\0').slice(0, -1),
        link: u53(at + 64),
      });
    }
    position += arena.readUInt32LE(at);
  }
  return changes;
}

/**
 * Makes a loss of power out of what was done and not synced since: file contents block by block, each back to a state that it once
 * had; lengths; names from the newest backwards. The records are empty afterwards.
 * @param arenaPath of the replica's shim; its process is gone
 * @param volume mount point of its files
 */
export function losePower(arenaPath: string, volume: string, loss: Loss, prng: Prng): PowerLoss {
  const changes = readUnsynced(arenaPath);
  const files = filesByInode(volume);
  const byInode = Map.groupBy(
    changes.filter(({ kind }) => kind === 'write' || kind === 'truncate'),
    ({ inode }) => inode,
  );
  let reverted = 0;
  let bytes = 0;
  for (const [inode, own] of byInode) {
    const path = files.get(inode);
    if (path === undefined) continue;
    const done = revertFile(path, own, loss, prng);
    reverted += done.changes;
    bytes += done.bytes;
  }
  const names = changes.filter(({ paths }) => paths.length > 0);
  const lost = loss === 'all' ? names.length : prng.between(0, names.length);
  for (const change of names.slice(names.length - lost).reverse()) revertName(change, volume);
  rmSync(join(volume, LINKS), { recursive: true, force: true });
  forget(arenaPath);
  return { changes: reverted, bytes, names: lost };
}

function revertFile(path: string, changes: readonly UnsyncedChange[], loss: Loss, prng: Prng): { changes: number; bytes: number } {
  const file = openSync(path, 'r+');
  const touched = new Set<UnsyncedChange>();
  let bytes = 0;
  try {
    // Of each block the last `n` writes are lost, so that it is as it once was.
    const ofBlock = new Map<number, UnsyncedChange[]>();
    for (const change of changes) {
      const end = change.offset + change.oldData.length;
      for (let block = Math.floor(change.offset / BLOCK_BYTES); block * BLOCK_BYTES < end; block++) {
        ofBlock.set(block, [...(ofBlock.get(block) ?? []), change]);
      }
    }
    for (const [block, own] of ofBlock) {
      const lost = loss === 'all' ? own.length : prng.between(0, own.length);
      for (const change of own.slice(own.length - lost).reverse()) {
        const from = Math.max(change.offset, block * BLOCK_BYTES);
        const to = Math.min(change.offset + change.oldData.length, (block + 1) * BLOCK_BYTES);
        writeSync(file, change.oldData, from - change.offset, to - from, from);
        touched.add(change);
        bytes += to - from;
      }
    }
    const [first] = changes as [UnsyncedChange];
    const length = fstatSync(file).size;
    if (length > first.oldLength && (loss === 'all' || prng.chance(0.5))) {
      ftruncateSync(file, first.oldLength);
      bytes += length - first.oldLength;
      for (const change of changes) touched.add(change);
    }
  } finally {
    closeSync(file);
  }
  return { changes: touched.size, bytes };
}

function revertName(change: UnsyncedChange, volume: string): void {
  const [path, to] = change.paths as [string, string | undefined];
  const kept = join(volume, LINKS, String(change.link));
  // Directories that were removed behind their files are not recorded.
  mkdirSync(dirname(path), { recursive: true });
  if (change.kind === 'create') rmSync(path, { force: true });
  if (change.kind === 'rename' && existsSync(to as string)) renameSync(to as string, path);
  if (change.kind === 'rename' && change.link !== 0 && existsSync(kept)) renameSync(kept, to as string);
  if (change.kind === 'unlink' && existsSync(kept)) renameSync(kept, path);
}

function filesByInode(volume: string): Map<bigint, string> {
  const found = new Map<bigint, string>();
  for (const entry of readdirSync(volume, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) found.set(lstatSync(path, { bigint: true }).ino, path);
  }
  return found;
}

/** Empties the records: what is on the disk now is what is there. */
export function forget(arenaPath: string): void {
  const file = openSync(arenaPath, 'r+');
  const head = Buffer.alloc(8);
  readSync(file, head, 0, 8, HEAD_AT);
  writeSync(file, head, 0, 8, TAIL_AT);
  closeSync(file);
}
