import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..', '..');
const INSTALL = 'test -L node_modules -o node_modules/.package-lock.json -nt package-lock.json || npm ci >&2';

/** Every process whose parents lead to `pid`, and itself. */
function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return [pid, ...(children === '' ? [] : children.split(' ').flatMap((child) => familyOf(Number(child))))];
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('npm scripts', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> };

  test('each begins with exec, so that signals reach the program, and installs first what is missing', () => {
    const own = Object.keys(scripts).filter((name) => !name.startsWith('pre'));
    expect(own).toEqual(expect.arrayContaining(['start', 'test', 'ledgermq', 'demo', 'sim', 'canary', 'bench']));
    for (const name of own) {
      expect(scripts[name], name).toMatch(/^exec /);
      expect(scripts[`pre${name}`], name).toBe(INSTALL);
    }
  });

  test('sim and canary say how they are used, and refuse what they do not know', () => {
    for (const name of ['sim', 'canary']) {
      const program = join(ROOT, (scripts[name] as string).replace('exec node ', ''));
      const run = (argument: string) => spawnSync(process.execPath, [program, argument], { encoding: 'utf8' });
      expect(run('--help')).toMatchObject({ status: 0, stderr: '', stdout: expect.stringContaining(`npm run ${name}`) });
      expect(run('--nonsense')).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining(`npm run ${name}`) });
    }
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`F42 command line: ${signal} to npm start in the background leaves no process behind`, async () => {
      const dir = mkdtempSync(join(tmpdir(), 'ledgermq-npm-'));
      const args = ['start', '--silent', '--', '--base-port', '0', '--json', '--dir', dir];
      const npm: ChildProcess = spawn('npm', args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'], detached: true });
      let family: number[] = [];
      try {
        const [line] = (await once(createInterface({ input: npm.stdout as NodeJS.ReadableStream }), 'line')) as [string];
        const { pids } = JSON.parse(line) as { pids: number[] };
        family = familyOf(npm.pid as number);
        expect(family).toEqual(expect.arrayContaining(pids));
        npm.kill(signal);
        await once(npm, 'exit');
        await expect.poll(() => family.filter(isAlive), { timeout: 30_000 }).toEqual([]);
      } finally {
        for (const pid of family.filter(isAlive)) process.kill(pid, 'SIGKILL');
        rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
      }
    });
  }
});
