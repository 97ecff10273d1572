import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Disk } from '../../src/io/disk.ts';
import { NodeDisk } from '../../src/io/node/disk.ts';

/** A real disk and a directory of its own, removed when the test ends. */
export function tempDisk(): { disk: Disk; directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'ledgermq-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return { disk: new NodeDisk(), directory };
}

/** A disk that calls `hook` before each call of an operation; what the hook throws, the operation rejects with. */
export function hookedDisk(disk: Disk, hook: (operation: string, path: string) => void): Disk {
  return new Proxy(disk, {
    get(target, name: keyof Disk) {
      const method = target[name] as (...parameters: unknown[]) => unknown;
      return (...parameters: unknown[]) => {
        const before = async (): Promise<void> => hook(String(name), String(parameters[0]));
        if (name === 'allocateAligned') return method.apply(target, parameters);
        if (name !== 'open') return before().then(() => method.apply(target, parameters));
        return before()
          .then(() => method.apply(target, parameters) as ReturnType<Disk['open']>)
          .then((file) => hookedFile(file, hook));
      };
    },
  });
}

function hookedFile<T extends object & { path: string }>(file: T, hook: (operation: string, path: string) => void): T {
  return new Proxy(file, {
    get(target, name) {
      const member = Reflect.get(target, name, target) as unknown;
      if (typeof member !== 'function') return member;
      return async (...parameters: unknown[]) => {
        hook(`file.${String(name)}`, target.path);
        return await (member.apply(target, parameters) as Promise<unknown>);
      };
    },
  });
}
