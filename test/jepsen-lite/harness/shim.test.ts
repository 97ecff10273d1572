import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Prng } from '../../sim/prng.ts';
import { compileShim, Shim, ShimMode } from '../shim/shim.ts';
import { type Loss, losePower, readUnsynced } from '../shim/undo.ts';
import { type Volume, Volumes } from '../volumes.ts';

const MIB = 1024 * 1024;
const BLOCK = 4096;
let volumes: Volumes;
let library: string;
let volume: Volume;
let other: Volume;
let shim: Shim;
let made = 0;

beforeAll(async () => {
  volumes = await Volumes.create();
  library = await compileShim(volumes.directory);
});
afterAll(() => volumes?.destroy());
beforeEach(async () => {
  volume = await volumes.add(`v${++made}`, 64 * MIB);
  other = await volumes.add(`o${made}`, MIB);
  shim = new Shim(volumes.directory, `r${made}`, library, volume.path);
  return () => shim.close();
});

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
}

/** Runs a program whose file calls are struck; `dir` is the volume. */
function program(text: string): Promise<Ended> {
  const head = `const fs = require('fs'); const dir = ${JSON.stringify(volume.path)}; const c = fs.constants;
    const file = (name, flags = 0) => fs.openSync(dir + '/' + name, c.O_RDWR | c.O_CREAT | flags);
    const block = (text) => Buffer.alloc(${BLOCK}, text);
    const attempt = (work) => { try { return work(); } catch (error) { return error.code; } };
    const syncDirectory = () => { const d = fs.openSync(dir); fs.fsyncSync(d); fs.closeSync(d); };
    const die = () => process.kill(process.pid, 'SIGKILL');`;
  const child = spawn(process.execPath, ['-e', `${head}\n${text}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...shim.env },
  });
  let out = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  return new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, out: out.trim() })));
}

const lose = (loss: Loss = 'all', seed = 1) => losePower(shim.arenaPath, volume.path, loss, new Prng(seed));
const content = (name: string): string => readFileSync(join(volume.path, name), 'latin1');
const names = (): string[] => readdirSync(volume.path).sort();
const blocks = (...texts: string[]): string => texts.map((text) => text.repeat(BLOCK)).join('');

describe('F43 a loss of power', () => {
  test('takes what was not synced, and nothing else', async () => {
    const { signal } = await program(`
      const a = file('a'); fs.writeSync(a, block('1'), 0, ${BLOCK}, 0); fs.fdatasyncSync(a);
      fs.writeSync(a, block('2'), 0, ${BLOCK}, 0); fs.writeSync(a, block('3'), 0, ${BLOCK}, ${BLOCK});
      const b = file('b', c.O_DSYNC); fs.writeSync(b, block('4'), 0, ${BLOCK}, 0);
      const d = file('d'); fs.writeSync(d, block('5')); fs.fsyncSync(d); fs.ftruncateSync(d, 10);
      syncDirectory(); die();`);
    expect(signal).toBe('SIGKILL');
    expect(content('a')).toBe(blocks('2', '3'));
    expect(content('d')).toHaveLength(10);
    expect(lose()).toMatchObject({ changes: 3, names: 0 });
    expect(content('a')).toBe(blocks('1'));
    expect(content('b')).toBe(blocks('4'));
    expect(content('d')).toBe(blocks('5'));
    expect(lose()).toEqual({ changes: 0, bytes: 0, names: 0 });
  });

  test('by writev and at the own position too', async () => {
    await program(`
      const a = file('a'); fs.writevSync(a, [block('1'), block('2')], 0); fs.fsyncSync(a); syncDirectory();
      fs.writevSync(a, [block('3'), block('4')], 0); const b = file('b'); syncDirectory(); fs.writeSync(b, 'xy'); fs.writevSync(b, [Buffer.from('z'), Buffer.from('w')]);
      die();`);
    expect(content('b')).toBe('xyzw');
    lose();
    expect(content('a')).toBe(blocks('1', '2'));
    expect(content('b')).toBe('');
  });

  test('takes names whose directory was not synced, newest first', async () => {
    writeFileSync(join(volume.path, 'target'), 'old');
    writeFileSync(join(volume.path, 'gone'), 'kept');
    await program(`
      const a = file('kept-name'); syncDirectory(); fs.writeSync(a, 'x'); fs.fsyncSync(a);
      const t = file('target.new'); fs.writeSync(t, 'new'); fs.fsyncSync(t);
      fs.renameSync(dir + '/target.new', dir + '/target'); fs.unlinkSync(dir + '/gone'); die();`);
    expect(content('target')).toBe('new');
    expect(names()).toEqual(['.undo', 'kept-name', 'target']);
    expect(lose().names).toBe(3);
    expect(names()).toEqual(['gone', 'kept-name', 'target']);
    expect([content('target'), content('gone'), content('kept-name')]).toEqual(['old', 'kept', 'x']);
  });

  test('brings files back whose directory was removed behind them', async () => {
    await program(`fs.mkdirSync(dir + '/d'); const a = file('d/a'); fs.writeSync(a, 'x'); fs.fsyncSync(a);
      const d = fs.openSync(dir + '/d'); fs.fsyncSync(d); syncDirectory(); fs.unlinkSync(dir + '/d/a'); fs.rmdirSync(dir + '/d'); die();`);
    expect(names()).not.toContain('d');
    expect(lose().names).toBe(1);
    expect(content('d/a')).toBe('x');
  });

  test('leaves names whose directory was synced', async () => {
    writeFileSync(join(volume.path, 'target'), 'old');
    await program(`const t = file('target.new'); fs.writeSync(t, 'new'); fs.fsyncSync(t); fs.renameSync(dir + '/target.new', dir + '/target');
      syncDirectory(); die();`);
    expect(lose().names).toBe(0);
    expect(content('target')).toBe('new');
    expect(existsSync(join(volume.path, '.undo', '1'))).toBe(false);
  });

  test('a later process does not make durable what an earlier one only wrote', async () => {
    await program(`const a = file('a'); fs.fsyncSync(a); syncDirectory(); fs.writeSync(a, 'unsynced', 0); die();`);
    await program(`const a = file('a'); fs.readSync(a, Buffer.alloc(8)); die();`);
    expect(content('a')).toBe('unsynced');
    lose();
    expect(content('a')).toBe('');
  });

  test('a durable write over unsynced bytes stays', async () => {
    await program(`const a = file('a'); syncDirectory(); fs.writeSync(a, Buffer.alloc(${4 * BLOCK}), 0, ${4 * BLOCK}, 0);
      fs.writeSync(a, block('z'), 0, ${BLOCK}, ${2 * BLOCK});
      const d = fs.openSync(dir + '/a', c.O_RDWR | c.O_DSYNC); fs.writeSync(d, block('1'), 0, ${BLOCK}, ${BLOCK}); die();`);
    lose();
    expect(content('a')).toBe(blocks('\0', '1'));
  });

  test('after a failed sync the bytes are gone, also when the next sync succeeds', async () => {
    shim.set(ShimMode.failSync);
    const ended =
      await program(`const a = file('a'); fs.writeSync(a, 'early', 0); console.log(attempt(() => fs.fsyncSync(a)), attempt(() => fs.fdatasyncSync(a)));
      const d = fs.openSync(dir + '/a', c.O_RDWR | c.O_DSYNC); console.log(attempt(() => fs.writeSync(d, block('1'), 0, ${BLOCK}, 0))); die();`);
    expect(ended.out).toBe('EIO EIO\nEIO');
    expect(shim.counts().failedSyncs).toBe(3);
    expect(content('a')).toBe(blocks('1'));
    shim.set(0);
    await program('syncDirectory(); die();');
    lose();
    expect(content('a')).toBe('');
  });

  test('may take a part: each block is as it once was, and the same seed takes the same', async () => {
    const write = () =>
      program(`const a = file('a'); fs.writeSync(a, Buffer.alloc(${32 * BLOCK}, '0'), 0, ${32 * BLOCK}, 0); fs.fsyncSync(a); syncDirectory();
        for (const text of ['1', '2']) for (let i = 0; i < 32; i++) fs.writeSync(a, block(text), 0, ${BLOCK}, i * ${BLOCK}); die();`);
    const lossOf = async (seed: number): Promise<string> => {
      await write();
      lose('some', seed);
      return Array.from({ length: 32 }, (_, block) => content('a').slice(block * BLOCK, (block + 1) * BLOCK))
        .map((text) => (text === (text[0] as string).repeat(BLOCK) ? text[0] : '?'))
        .join('');
    };
    const first = await lossOf(7);
    expect(first).toMatch(/^[012]{32}$/);
    expect([...new Set(first)].sort()).toEqual(['0', '1', '2']);
    expect(await lossOf(7)).toBe(first);
    expect(await lossOf(8)).not.toBe(first);
  });

  test('the ring of records is bounded: the oldest count as written back', async () => {
    const big = 4 * MIB;
    await program(`const a = file('a'); syncDirectory(); const b = (t) => Buffer.alloc(${big}, t);
      for (const t of '0123456789abcdef') fs.writeSync(a, b(t), 0, ${big}, 0); die();`);
    expect(shim.counts().evicted).toBeGreaterThan(5);
    expect(readUnsynced(shim.arenaPath).length).toBeGreaterThan(2);
    lose();
    expect(content('a')[0]).toMatch(/[1-9a-e]/);
  });
});

describe('F43 struck calls', () => {
  test('fail as told and are counted; other files are left alone', async () => {
    shim.set(ShimMode.failWrite);
    const ended =
      await program(`const a = file('a'); console.log([attempt(() => fs.writeSync(a, 'x', 0)), attempt(() => fs.writevSync(a, [block('1'), block('2')], 0)),
      attempt(() => fs.ftruncateSync(a, 1)), attempt(() => fs.renameSync(dir + '/a', dir + '/b')), attempt(() => fs.fsyncSync(a))].join());
      fs.writeFileSync(${JSON.stringify(join(other.path, 'free'))}, 'x'); process.exit(3);`);
    expect(ended).toEqual({ code: 3, signal: null, out: 'EIO,EIO,EIO,EIO,' });
    expect(shim.counts()).toMatchObject({ failedWrites: 2, failedTruncates: 1, failedRenames: 1, failedSyncs: 0, syncs: 1 });
    expect(content('a')).toBe('');
  });

  test('a short write says how much it wrote', async () => {
    shim.set(ShimMode.shortWrite);
    const ended = await program(`const a = file('a'); const big = Buffer.alloc(${4 * BLOCK}, '1');
      console.log(fs.writeSync(a, big, 0, big.length, 0), fs.writeSync(a, big, 0, ${BLOCK}, ${2 * BLOCK}), fs.writevSync(a, [big, big], 0))`);
    expect(ended.out).toBe(`${2 * BLOCK} ${BLOCK} ${4 * BLOCK}`);
    expect(content('a')).toHaveLength(4 * BLOCK);
    expect(shim.counts().shortWrites).toBe(2);
  });

  test('one in so many', async () => {
    shim.set(ShimMode.failWrite, 10, 5);
    const ended = await program(
      `const a = file('a'); let n = 0; for (let i = 0; i < 1000; i++) if (attempt(() => fs.writeSync(a, 'x', 0)) === 'EIO') n++; console.log(n)`,
    );
    expect(Number(ended.out)).toBe(shim.counts().failedWrites);
    expect(Number(ended.out)).toBeGreaterThan(50);
    expect(Number(ended.out)).toBeLessThan(200);
  });

  test('a torn write leaves some sectors, and the process is gone', async () => {
    shim.set(ShimMode.tear, 1, 11);
    const { signal, out } = await program(`const a = file('a', c.O_DSYNC | c.O_DIRECT); const big = Buffer.alloc(${16 * BLOCK}, '1');
      fs.writeSync(a, big, 0, big.length, 0); console.log('not reached')`);
    expect({ signal, out }).toEqual({ signal: 'SIGKILL', out: '' });
    expect(shim.counts().tornWrites).toBe(1);
    const sectors = content('a').match(/.{512}/gs) ?? [];
    expect(new Set(sectors.map((sector) => sector[0]))).toEqual(new Set(['\0', '1']));
    for (const sector of sectors) expect(sector).toBe((sector[0] as string).repeat(512));
  });
});
