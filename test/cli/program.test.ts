import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { exitOf } from '../../src/cli/context.ts';
import { freeBasePort } from '../../src/cli/local-ports.ts';
import { COMMANDS, packageVersion } from '../../src/cli/program.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { cli } from './run.ts';

describe('command line', () => {
  test('F42 command line: help is data and exits 0, for the program and every command', async () => {
    const program = await cli(['--help']);
    expect(program.exit).toBe(0);
    for (const name of Object.keys(COMMANDS)) {
      expect(program.stdout).toContain(`  ${name} `);
      const help = await cli([name, '--help']);
      expect(help.exit, name).toBe(0);
      expect(help.stdout, name).toContain(`ledgermq ${name}`);
      expect(help.stderr, name).toBe('');
    }
    expect(await cli(['--version'])).toEqual({ exit: 0, stdout: `${packageVersion()}\n`, stderr: '' });
  });

  test.each([
    [[]],
    [['nonsense']],
    [['topic']],
    [['topic', 'create']],
    [['topic', 'create', 't', '--queues', '0']],
    [['topic', 'create', 't', '--perm', 'x']],
    [['topic', 'create', 't', '--message-type', 'other']],
    [['topic', 'list', '--endpoint', 'http://127.0.0.1:1']],
    [['topic', 'list', '--endpoint', ',']],
    [['topic', 'list', '--nonsense']],
    [['consume', 't']],
    [['consume', 't', '--group', 'g', '--from', 'yesterday']],
    [['consume', 't', '--group', 'g', '--filter', 'a &&& b']],
    [['consume', 't', '--group', 'g', '--filter', 'a ||']],
    [['send', 't', '--body', 'x', '--file', 'y']],
    [['message', 'get']],
    [['message', 'get', 'XYZ']],
    [['group', 'reset-offset', 'g', '--topic', 't']],
    [['group', 'reset-offset', 'g', '--topic', 't', '--offset', '3']],
    [['raft', 'add']],
    [['raft', 'add', 'a']],
    [['raft', 'add', 'a', '4']],
    [['raft', 'add', 'a', '4@h']],
    [['raft', 'add', 'a', '4@h:']],
    [['raft', 'add', 'a', '4@h:0']],
    [['raft', 'add', 'a', '4@h:65536']],
    [['raft', 'add', 'a', '4@:7460']],
    [['raft', 'add', 'a', '4@::1:7460']],
    [['raft', 'add', 'a', '0@h:7460']],
    [['raft', 'add', 'a', '8@h:7460']],
    [['raft', 'add', 'a', 'x@h:7460']],
    [['raft', 'add', 'a', '4@h:7460', '--timeout', '0']],
    [['raft', 'remove', 'a']],
    [['raft', 'remove', 'a', '8']],
    [['raft', 'remove', 'a', 'x']],
    [['dev', '--groups', '0']],
    [['dev', '--groups', '10']],
    [['topic', 'create', 't', '--group', 'a,']],
    [['topic', 'update', 't', '--group', 'a']],
    [['dev', '--replicas', '2']],
    [['demo', '--timeout', '0']],
    [['bench', 'produce', '--mode', 'other']],
    [['bench', 'produce', '--groups', '10']],
    [['bench', 'produce', '--groups', '2', '--endpoint', 'ws://127.0.0.1:7460']],
    [['broker', '--port', '0']],
    [['broker', '--no-such-setting', '1']],
    [['broker', '--config', '/no/such/file']],
  ])('F42 command line: wrong usage exits 2 and says why on stderr: %j', async (args) => {
    const ran = await cli(args);
    expect(ran).toMatchObject({ exit: 2, stdout: '' });
    expect(ran.stderr).not.toBe('');
  });

  test('a wrong configuration names every problem', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'ledgermq-config-'));
    try {
      writeFileSync(join(dir, 'broker.json'), '{"flush":"never","nonsense":1}');
      const ran = await cli(['broker', '--config', join(dir, 'broker.json')], { LEDGERMQ_PORT: 'x' });
      expect(ran.exit).toBe(2);
      expect(ran.stderr).toContain('flush');
      expect(ran.stderr).toContain('nonsense');
      expect(ran.stderr).toContain('LEDGERMQ_PORT');
      writeFileSync(join(dir, 'broker.json'), '{');
      expect((await cli(['broker', '--config', join(dir, 'broker.json')])).exit).toBe(2);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test('F42 command line: nobody at the endpoint exits 3, whichever way it was given', async () => {
    const endpoint = `ws://127.0.0.1:${await freeBasePort('127.0.0.1', 1)}`;
    const commands = [
      ['cluster', 'status'],
      ['raft', 'status'],
      ['raft', 'transfer'],
      ['raft', 'add', 'a', '4@h:7460'],
      ['raft', 'remove', 'a', '4'],
      ['topic', 'list'],
      ['topic', 'create', 't'],
      ['topic', 'update', 't'],
      ['topic', 'describe', 't'],
      ['topic', 'delete', 't'],
      ['group', 'list'],
      ['group', 'describe', 'g'],
      ['group', 'lag', 'g'],
      ['group', 'reset-offset', 'g', '--topic', 't', '--to', 'first'],
      ['message', 'get', '0'.repeat(32)],
      ['send', 't', '--body', 'x'],
      ['consume', 't', '--group', 'g'],
      ['bench', 'produce'],
      ['verify'],
    ];
    const ran = await Promise.all([
      ...commands.map((args) => cli([...args, '--endpoint', endpoint])),
      ...commands.map((args) => cli([...args, '--json'], { LEDGERMQ_ENDPOINT: endpoint })),
    ]);
    ran.forEach((result, at) => {
      expect(result, String(commands[at % commands.length])).toMatchObject({ exit: 3, stdout: '' });
      expect(result.stderr).toContain(endpoint);
    });
  });

  test('F42 command line: what is tried is said while nobody answers, and a filter that means nothing is named', async () => {
    const endpoint = `ws://127.0.0.1:${await freeBasePort('127.0.0.1', 1)}`;
    const ran = await cli(['send', 't', '--body', 'x', '--endpoint', endpoint]);
    expect(ran.stderr).toBe(`trying ${endpoint} for 3 s …\nledgermq: no broker answers at ${endpoint}\n`);
    const filtered = await cli(['consume', 't', '--group', 'g', '--filter', 'a &&& b']);
    expect(filtered.stderr).toContain('character 3 of "a &&& b": "&" has no meaning here');
  });

  test('F42 command line: bench names a directory that it cannot use', async () => {
    const ran = await cli(['bench', 'produce', '--dir', '/proc/no-such-directory']);
    expect(ran).toMatchObject({ exit: 1, stdout: '' });
    expect(ran.stderr).toContain('--dir /proc/no-such-directory: ');
    const below = await cli(['bench', 'produce', '--dir', '/proc/no/such/directory']);
    expect(below).toMatchObject({ exit: 1, stdout: '' });
  });

  test('errors of the client become the exit codes', () => {
    expect(exitOf(new LedgerError('NO_ROUTE'))).toBe(3);
    expect(exitOf(new LedgerError('DEADLINE_EXCEEDED'))).toBe(4);
    expect(exitOf(new LedgerError('TOPIC_NOT_FOUND'))).toBe(1);
    expect(exitOf(new LedgerError('BAD_NAME'))).toBe(2);
    expect(exitOf(new LedgerError('RETRIES_EXHAUSTED', 'x', [new LedgerError('NO_ROUTE')]))).toBe(3);
    expect(exitOf(new LedgerError('RETRIES_EXHAUSTED', 'x', [new LedgerError('BUSY')]))).toBe(1);
    expect(exitOf(new Error('x'))).toBe(1);
  });
});
