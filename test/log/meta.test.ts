import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/io/disk.ts';
import { LogForeign, LogRefused } from '../../src/log/errors.ts';
import { createMeta, loadMeta, updateMeta } from '../../src/log/meta.ts';
import { hookedDisk, tempDisk } from '../support/temp-disk.ts';

const identity = { clusterId: 'c1', brokerName: 'broker-a', replicaId: 2 };

describe('F42 meta.json', () => {
  test('a missing or empty directory has none; created once, it is read again', async () => {
    const { disk, directory } = tempDisk();
    const data = join(directory, 'new', 'data');
    expect(await loadMeta(disk, data, identity)).toBeNull();
    const meta = await createMeta(disk, data, identity, 'i-1');
    expect(await loadMeta(disk, data, identity)).toEqual(meta);
    expect(meta).toEqual({ formatVersion: 1, ...identity, incarnation: 'i-1', formedWith: null });
    const formed = await updateMeta(disk, data, meta, { 1: 'a', 2: 'i-1', 3: 'c' });
    expect(await loadMeta(disk, data, identity)).toEqual(formed);
    expect(readdirSync(data)).toEqual(['meta.json']);
  });

  test.each([
    ['clusterId', { ...identity, clusterId: 'c2' }],
    ['brokerName', { ...identity, brokerName: 'broker-b' }],
    ['replicaId', { ...identity, replicaId: 3 }],
  ])('a directory of another %s is refused and left untouched', async (field, other) => {
    const { disk, directory } = tempDisk();
    await createMeta(disk, directory, identity, 'i-1');
    const before = readFileSync(join(directory, 'meta.json'), 'utf8');
    const { mtimeMs } = statSync(join(directory, 'meta.json'));
    await expect(loadMeta(disk, directory, other)).rejects.toThrow(LogForeign);
    await expect(loadMeta(disk, directory, other)).rejects.toThrow(field);
    expect(readFileSync(join(directory, 'meta.json'), 'utf8')).toBe(before);
    expect(statSync(join(directory, 'meta.json')).mtimeMs).toBe(mtimeMs);
    expect(readdirSync(directory)).toEqual(['meta.json']);
  });

  test('another format is refused', async () => {
    const { disk, directory } = tempDisk();
    await createMeta(disk, directory, identity, 'i-1');
    const path = join(directory, 'meta.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"formatVersion": 1', '"formatVersion": 2'));
    await expect(loadMeta(disk, directory, identity)).rejects.toThrow(LogForeign);
  });

  test('data without a meta.json is refused as foreign, an aborted creation is not', async () => {
    const { disk, directory } = tempDisk();
    mkdirSync(join(directory, 'lost+found'));
    writeFileSync(join(directory, 'meta.json.tmp'), '{"form');
    expect(await loadMeta(disk, directory, identity)).toBeNull();
    mkdirSync(join(directory, 'commitlog'));
    await expect(loadMeta(disk, directory, identity)).rejects.toThrow(LogForeign);
    expect(readdirSync(directory).sort()).toEqual(['commitlog', 'lost+found', 'meta.json.tmp']);
  });

  test.each([
    '',
    '{',
    '[]',
    'null',
    '{"formatVersion":1}',
    '{"formatVersion":1,"clusterId":"","brokerName":"b","replicaId":2,"incarnation":"i","formedWith":null}',
    'x'.repeat(70_000),
  ])('a damaged one is refused: %j', async (text) => {
    const { disk, directory } = tempDisk();
    writeFileSync(join(directory, 'meta.json'), text);
    await expect(loadMeta(disk, directory, identity)).rejects.toThrow(LogRefused);
    expect(readFileSync(join(directory, 'meta.json'), 'utf8')).toBe(text);
  });

  test('fields of a later version are kept', async () => {
    const { disk, directory } = tempDisk();
    const meta = await createMeta(disk, directory, identity, 'i-1');
    writeFileSync(join(directory, 'meta.json'), JSON.stringify({ ...meta, rack: 'r7' }));
    const loaded = await loadMeta(disk, directory, identity);
    if (loaded === null) throw new Error('there is one');
    await updateMeta(disk, directory, loaded, { 2: 'i-1' });
    expect(await loadMeta(disk, directory, identity)).toMatchObject({ rack: 'r7', formedWith: { 2: 'i-1' } });
  });

  test('written as temporary file, sync, rename, directory sync; a failure leaves the old one', async () => {
    const { disk, directory } = tempDisk();
    const steps: string[] = [];
    let failAt = '';
    const watched = hookedDisk(disk, (operation, path) => {
      steps.push(operation);
      if (operation === failAt) throw new DiskError('EIO', operation, path);
    });
    const meta = await createMeta(watched, directory, identity, 'i-1');
    expect(steps).toEqual(['mkdir', 'remove', 'open', 'file.write', 'file.sync', 'file.close', 'rename', 'syncDirectory']);
    for (failAt of ['file.write', 'file.sync', 'rename']) {
      await expect(updateMeta(watched, directory, meta, { 2: 'i-1' })).rejects.toThrow('EIO');
      expect(await loadMeta(disk, directory, identity)).toEqual(meta);
    }
  });
});
