import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HistoryLine } from '../history.ts';

const MAIN = join(import.meta.dirname, '../main.ts');
const NOBODY = 65_534;

let out: string;
beforeEach(() => {
  out = mkdtempSync(join(tmpdir(), 'chaos-test-'));
});
afterEach(() => rmSync(out, { recursive: true, force: true }));

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(args: readonly string[], uid?: number): { child: ChildProcess; ended: Promise<Ran>; said: (text: string) => Promise<void> } {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], ...(uid === undefined ? {} : { uid }) });
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<Ran>((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
  const said = async (text: string): Promise<void> => {
    while (!stderr.includes(text)) {
      if (child.exitCode !== null) throw new Error(`ended before it said “${text}”: ${stderr}`);
      await new Promise((resolve) => child.stderr?.once('data', resolve).once('close', resolve));
    }
  };
  return { child, ended, said };
}

/** What a run of that process makes outside of its directory. */
function traces(pid: number): string[] {
  const owner = `lmq${pid}x`;
  const names = (directory: string): string[] =>
    (existsSync(directory) ? readdirSync(directory) : []).map((name) => `${directory}/${name}`);
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return [...names('/run/netns'), ...names('/etc/netns'), ...names(tmpdir()), ...mounts].filter((each) => each.includes(owner));
}

/** Processes whose command line names the run's directory of volumes. */
const processesOf = (pid: number): string[] =>
  execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes(`lmq${pid}x`));

describe('F43 npm run chaos', () => {
  test('says what is missing, and leaves with 2', async () => {
    const { code, stderr } = await start(['--minutes', '0.5', '--out', join(out, 'x')], NOBODY).ended;
    expect(stderr).toMatch(/root/);
    expect(code).toBe(2);
    const wrong = await start(['--faults', 'flood']).ended;
    expect([wrong.code, wrong.stderr.split('\n')[0]]).toEqual([2, '--faults: no such fault: flood; --list names them']);
    const list = await start(['--list']).ended;
    expect(list.code).toBe(0);
    expect(list.stdout).toContain('power-loss-all');
  });

  test('a short run: faults are carried out and proved, the verdict is the last line, nothing is left', async () => {
    const { child, ended } = start(['--minutes', '0.5', '--faults', 'isolate,kill-one', '--seed', '5', '--out', out]);
    const { code, stdout, stderr } = await ended;
    expect(stdout, stderr).toMatch(/^verdict: valid seed 5: [^\n]+\n$/);
    expect(code).toBe(0);
    const history = readFileSync(join(out, 'history.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as HistoryLine);
    expect(history.map(({ index }) => index)).toEqual(history.map((_, at) => at));
    type Value = { readonly phase: string; readonly fired?: boolean };
    const nemesis = history
      .filter((line) => line.process === 'nemesis' && ['isolate', 'kill-one'].includes(line.f))
      .map(({ value }) => value as Value);
    expect(nemesis.filter(({ phase }) => phase === 'end').length).toBeGreaterThan(0);
    expect(nemesis.filter(({ phase, fired }) => phase === 'end' && fired !== true)).toEqual([]);
    expect(readdirSync(join(out, 'logs'))).toEqual(expect.arrayContaining(['n1.log', 'n2.log', 'n3.log']));
    expect(existsSync(join(out, 'report.html'))).toBe(true);
    expect(traces(child.pid as number)).toEqual([]);
  });

  test('the same schedule is carried out again from its file', async () => {
    const first = start(['--minutes', '0.5', '--faults', 'pause', '--seed', '9', '--out', join(out, 'a')]);
    await first.said('clients at work');
    first.child.kill('SIGINT');
    await first.ended;
    const file = join(out, 'a', 'schedule.json');
    const again = start(['--schedule', file, '--out', join(out, 'b')]);
    await again.said('clients at work');
    again.child.kill('SIGINT');
    await again.ended;
    expect(readFileSync(join(out, 'b', 'schedule.json'), 'utf8')).toBe(readFileSync(file, 'utf8'));
  });

  test('SIGINT, twice as npm sends it, leaves nothing', async () => {
    const { child, ended, said } = start(['--minutes', '3', '--faults', 'all', '--seed', '1', '--out', out]);
    await said('clients at work');
    const pid = child.pid as number;
    expect(traces(pid).length).toBeGreaterThan(5);
    child.kill('SIGINT');
    child.kill('SIGINT');
    const { code, stdout } = await ended;
    expect(stdout).toMatch(/^verdict: unknown seed 1: interrupted/);
    expect(code).toBe(4);
    expect(traces(pid)).toEqual([]);
    expect(processesOf(pid)).toEqual([]);
  });

  test('what kill -9 left is removed by the next run, and its processes end', async () => {
    const killed = start(['--minutes', '3', '--faults', 'all', '--seed', '1', '--out', join(out, 'a')]);
    await killed.said('clients at work');
    killed.child.kill('SIGKILL');
    await killed.ended;
    const pid = killed.child.pid as number;
    expect(traces(pid).length).toBeGreaterThan(5);
    const next = start(['--minutes', '3', '--faults', 'pause', '--seed', '1', '--out', join(out, 'b')]);
    await next.said('three replicas are ready');
    expect(traces(pid)).toEqual([]);
    expect(processesOf(pid)).toEqual([]);
    next.child.kill('SIGINT');
    await next.ended;
  });
});
