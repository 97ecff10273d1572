import type * as fs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DiskError } from '../../src/io/disk.ts';
import { type DurableMode, NodeDisk } from '../../src/io/node/disk.ts';

/** fs.write that takes part of what it is given, as a file system does that is about to be full. */
const shortWrites = vi.hoisted(() => ({ maxBytes: Number.POSITIVE_INFINITY, calls: 0, error: null as string | null }));
vi.mock('node:fs', async (original) => {
  const real = await original<typeof fs>();
  return {
    ...real,
    write: (
      fd: number,
      bytes: Uint8Array,
      offset: number,
      size: number,
      position: number,
      done: (error: Error | null, written: number) => void,
    ) => {
      shortWrites.calls++;
      if (shortWrites.error !== null && shortWrites.calls > 1) done(Object.assign(new Error('x'), { code: shortWrites.error }), 0);
      else real.write(fd, bytes, offset, Math.min(size, shortWrites.maxBytes), position, done);
    },
  };
});

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ledgermq-disk-'));
});
afterEach(() => {
  Object.assign(shortWrites, { maxBytes: Number.POSITIVE_INFINITY, error: null });
  rmSync(root, { recursive: true, force: true });
});

function pattern(disk: NodeDisk, sizeBytes: number): Uint8Array {
  const bytes = disk.allocateAligned(sizeBytes);
  for (let i = 0; i < sizeBytes; i++) bytes[i] = 1 + (i % 251);
  return bytes;
}

describe('NodeDisk', () => {
  for (const durableMode of [undefined, 'direct', 'dsync', 'fdatasync'] as (DurableMode | undefined)[]) {
    test(`durable files: ${durableMode ?? 'detected mode'} writes and reads back at any place`, async () => {
      const disk = new NodeDisk(durableMode === undefined ? { root } : { root, durableMode });
      const file = await disk.open('a', { access: 'readwrite', create: true, durable: true });
      const bytes = pattern(disk, 3 * 4096);
      await file.write(bytes, 4096);
      const back = new Uint8Array(10_000);
      expect(await file.read(back, 4096 + 13)).toBe(10_000);
      expect(Buffer.compare(back, bytes.subarray(13, 10_013))).toBe(0);
      expect(await file.read(back, 4 * 4096 - 5)).toBe(5);
      expect(await file.sizeBytes()).toBe(4 * 4096);
      await file.truncate(4096);
      expect(await file.sizeBytes()).toBe(4096);
      await file.sync();
      await file.close();
    });
  }

  test('the probe leaves nothing behind and is made once for a directory', async () => {
    const disk = new NodeDisk({ root });
    expect(['direct', 'dsync', 'fdatasync']).toContain(await disk.durableMode('.'));
    expect(disk.durableMode('.')).toBe(disk.durableMode('.'));
    expect(await disk.list('.')).toEqual([]);
  });

  test('FAULTS 3 short writes are continued until all is written', async () => {
    for (const durable of [true, false]) {
      const disk = new NodeDisk({ root });
      const file = await disk.open(`short-${durable}`, { access: 'readwrite', create: true, durable });
      const bytes = pattern(disk, 5 * 4096);
      shortWrites.maxBytes = 4096 + 512;
      shortWrites.calls = 0;
      await file.write(bytes, 0);
      expect(shortWrites.calls).toBeGreaterThan(4);
      const back = new Uint8Array(bytes.length);
      await file.read(back, 0);
      expect(Buffer.compare(back, bytes)).toBe(0);
      await file.close();
    }
  });

  test('FAULTS 3 a short write followed by an error rejects with its code', async () => {
    const disk = new NodeDisk({ root });
    const file = await disk.open('full', { access: 'readwrite', create: true });
    Object.assign(shortWrites, { maxBytes: 4096, calls: 0, error: 'ENOSPC' });
    await expect(file.write(pattern(disk, 8192), 0)).rejects.toMatchObject({ name: 'DiskError', code: 'ENOSPC', operation: 'write' });
    await file.close();
  });

  test('directories, names and errors', async () => {
    const disk = new NodeDisk({ root });
    await disk.mkdir('a/b/c');
    await disk.mkdir('a/b/c');
    expect(await disk.exists('a/b')).toBe(true);
    expect(await disk.list('a')).toEqual(['b']);
    expect(await disk.list('nowhere')).toEqual([]);
    await expect(disk.open('a/missing', { access: 'read' })).rejects.toBeInstanceOf(DiskError);
    const file = await disk.open('a/x', { access: 'readwrite', create: true });
    await file.write(new Uint8Array([1, 2, 3]), 0);
    await file.close();
    await disk.rename('a/x', 'a/y');
    await disk.syncDirectory('a');
    expect(await disk.list('a')).toEqual(['b', 'y']);
    await disk.remove('a');
    await disk.remove('a');
    expect(await disk.exists('a')).toBe(false);
    const { freeBytes, totalBytes } = await disk.space('.');
    expect(freeBytes).toBeLessThanOrEqual(totalBytes);
    expect(await disk.bootId()).toBe(await disk.bootId());
  });

  test('aligned memory is zero, on a block boundary and nobody else’s', () => {
    const disk = new NodeDisk();
    const pieces = [1, 4096, 5000, 1024 * 1024].map((size) => disk.allocateAligned(size));
    pieces.forEach((piece, i) => {
      expect(piece.byteOffset % 4096).toBe(0);
      expect(piece.every((byte) => byte === 0)).toBe(true);
      piece.fill(i + 1);
    });
    pieces.forEach((piece, i) => {
      expect(piece.every((byte) => byte === i + 1)).toBe(true);
    });
  });
});
