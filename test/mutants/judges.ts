import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** One judge after the other, cheapest first, until one notices. A mutant that stops a judge from ending was noticed, too. */
export interface Judge {
  readonly name: string;
  readonly command: readonly string[];
  readonly timeoutMs: number;
}

export interface JudgeOptions {
  /** Of the simulator, for what the units have not noticed. */
  readonly seeds: number;
  /** Real processes at last: minutes for each mutant that has survived so far. */
  readonly e2e: boolean;
}

const MINUTE_MS = 60_000;
const vitest = (name: string, paths: readonly string[], timeoutMs: number): Judge => ({
  name,
  command: ['node_modules/.bin/vitest', 'run', '--bail', '1', '--reporter', 'dot', ...paths],
  timeoutMs,
});

/** @param path of the mutated file: `src/ROOM/…` */
export function judgesOf(path: string, { seeds, e2e }: JudgeOptions): readonly Judge[] {
  const room = path.split('/')[1] as string;
  const others = ['test/raft', 'test/log', 'test/replica', 'test/broker', 'test/server', 'test/golden'].filter(
    (directory) => directory !== `test/${room}`,
  );
  return [
    vitest(`test/${room}`, [`test/${room}`], 8 * MINUTE_MS),
    vitest('neighbours', others, 12 * MINUTE_MS),
    {
      name: `simulator, ${seeds} seeds`,
      command: ['node_modules/.bin/node', 'test/sim/main.ts', '--start', '1', '--seeds', String(seeds)],
      timeoutMs: 15 * MINUTE_MS,
    },
    ...(e2e ? [vitest('e2e', ['test/e2e', 'test/client', 'test/gateway'], 20 * MINUTE_MS)] : []),
  ];
}

/** @returns whether it noticed: it failed, or did not end */
export function notices({ command, timeoutMs }: Judge, directory: string): Promise<boolean> {
  const [program, ...args] = command as readonly [string, ...string[]];
  const path = `${join(directory, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`;
  // A group of its own: what a judge started ends with it.
  const child = spawn(program, args, { cwd: directory, stdio: 'ignore', detached: true, env: { ...process.env, PATH: path } });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => process.kill(-(child.pid as number), 'SIGKILL'), timeoutMs);
    child.once('error', reject);
    child.once('exit', (code) => {
      clearTimeout(timer);
      resolve(code !== 0);
    });
  });
}
