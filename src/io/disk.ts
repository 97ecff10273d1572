/** What the operating system said about a file operation. `code` is its errno name: ENOSPC, EIO, ENOENT, … */
export class DiskError extends Error {
  override name = 'DiskError';
  readonly code: string;
  readonly operation: string;
  readonly path: string;
  constructor(code: string, operation: string, path: string, options?: ErrorOptions) {
    super(`${operation} ${path}: ${code}`, options);
    this.code = code;
    this.operation = operation;
    this.path = path;
  }
}

/**
 * A write that found no room, or a file that could not be made for want of it: the same write may succeed later. Never of a
 * sync: what a failed one left behind is unknown, whatever it says (FAULTS 2).
 */
export function isOutOfSpace(error: unknown): boolean {
  if (!(error instanceof DiskError) || (error.code !== 'ENOSPC' && error.code !== 'EDQUOT')) return false;
  return error.operation === 'open' || error.operation === 'write' || error.operation === 'mkdir';
}

export interface OpenOptions {
  readonly access: 'read' | 'readwrite';
  /** Create when missing. The caller syncs the directory afterwards. */
  readonly create?: boolean;
  /**
   * A resolved write() is on stable storage (O_DIRECT|O_DSYNC where the file system has it, else O_DSYNC, else
   * write + fdatasync). Buffers, lengths and positions must then be multiples of `alignmentBytes`.
   */
  readonly durable?: boolean;
}

export interface DiskFile {
  readonly path: string;
  /** 1 when there is no constraint. */
  readonly alignmentBytes: number;
  /** Writes all of `bytes` (short writes are continued) or rejects with a DiskError. `bytes` must not change meanwhile. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** @returns bytes read, fewer than asked only at the end of the file. No alignment is asked of the caller. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** fdatasync. A rejected sync poisons: the caller never asks again (FAULTS 2). */
  sync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  sizeBytes(): Promise<number>;
  close(): Promise<void>;
}

/** Files (invariant I9). Paths are absolute or relative to a root that the implementation knows. */
export interface Disk {
  open(path: string, options: OpenOptions): Promise<DiskFile>;
  /** With parents; an existing directory is fine. Durable: the parents are synced. */
  mkdir(path: string): Promise<void>;
  /** Names in a directory, sorted; empty when it is missing. */
  list(path: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  rename(from: string, to: string): Promise<void>;
  /** A file or a whole tree; missing is fine. */
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in the directory durable. */
  syncDirectory(path: string): Promise<void>;
  space(path: string): Promise<{ freeBytes: number; totalBytes: number }>;
  /** Changes when the machine restarts, not when the process does: what was only in the page cache is gone then. */
  bootId(): Promise<string>;
  /** Zeroed memory on a 4 KiB boundary, as direct writes want it; never given back, so callers pool it. */
  allocateAligned(sizeBytes: number): Uint8Array;
}

/** A sector that the disk cannot give back: damage of what lies there, and nothing of the rest of the file. */
export function isUnreadable(error: unknown): boolean {
  return error instanceof DiskError && error.code === 'EIO' && error.operation === 'read';
}
