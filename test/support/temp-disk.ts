import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Disk, DiskError } from '../../src/io/disk.ts';
import { NodeDisk } from '../../src/io/node/disk.ts';

/** A real disk and a directory of its own, removed when the test ends. */
export function tempDisk(): { disk: Disk; directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'ledgermq-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return { disk: new NodeDisk(), directory };
}

type Hook = (operation: string, path: string, parameters: readonly unknown[]) => void;

/** A disk that cannot give back the sector of a file at `position`. */
export function spoiledDisk(disk: Disk, spoiled: string, position: number): Disk {
  const sector = position - (position % 512);
  return hookedDisk(disk, (operation, path, parameters) => {
    if (operation !== 'file.read' || path !== spoiled) return;
    const [into, from] = parameters as [Uint8Array, number];
    if (from < sector + 512 && from + into.length > sector) throw new DiskError('EIO', 'read', path);
  });
}

/** A disk that calls `hook` before each call of an operation; what the hook throws, the operation rejects with. */
export function hookedDisk(disk: Disk, hook: Hook): Disk {
  return new Proxy(disk, {
    get(target, name: keyof Disk) {
      const method = target[name] as (...parameters: unknown[]) => unknown;
      return (...parameters: unknown[]) => {
        const before = async (): Promise<void> => hook(String(name), String(parameters[0]), parameters);
        if (name === 'allocateAligned') return method.apply(target, parameters);
        if (name !== 'open') return before().then(() => method.apply(target, parameters));
        return before()
          .then(() => method.apply(target, parameters) as ReturnType<Disk['open']>)
          .then((file) => hookedFile(file, hook));
      };
    },
  });
}

function hookedFile<T extends object & { path: string }>(file: T, hook: Hook): T {
  return new Proxy(file, {
    get(target, name) {
      const member = Reflect.get(target, name, target) as unknown;
      if (typeof member !== 'function') return member;
      return async (...parameters: unknown[]) => {
        hook(`file.${String(name)}`, target.path, parameters);
        return await (member.apply(target, parameters) as Promise<unknown>);
      };
    },
  });
}
