import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..', '..');
const INSTALL_TIMEOUT_MS = 300_000;

/** What a user writes. It is type-checked as it stands, then run. */
const CONSUMER = `
import { LedgerClient, type SendResult } from 'ledgermq';
import { startServer } from 'ledgermq/server';
import { startTestBroker, type TestBroker } from 'ledgermq/testing';

const broker: TestBroker = await startTestBroker({ topics: { orders: 2 } });
const client = new LedgerClient({ endpoints: broker.endpoint });
const result: SendResult = await client.producer().send({ topic: 'orders', body: 'packed', orderingKey: 'k' });
const consumer = client.consumer({ group: 'billing', topics: ['orders'], consumeFromWhere: 'first' });
let text = '';
for await (const message of consumer) {
  text = message.text();
  break;
}
await client.close();
await broker.stop();
console.log(JSON.stringify({ offset: result.offset, text, server: typeof startServer }));
process.exit(0);
`;

describe('the package', () => {
  let dir: string;
  const run = (command: string, args: readonly string[], cwd = dir): Promise<{ stdout: string; stderr: string }> =>
    promisify(execFile)(command, args, { cwd, timeout: INSTALL_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 });

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ledgermq-package-'));
    await run('npm', ['pack', '--pack-destination', dir], ROOT);
    const [tarball] = readdirSync(dir).filter((name) => name.endsWith('.tgz'));
    writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'somebody', private: true, type: 'module' }));
    await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', join(dir, tarball as string)]);
  }, INSTALL_TIMEOUT_MS);
  afterAll(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));

  test('holds dist and no sources or tests', () => {
    const installed = readdirSync(join(dir, 'node_modules', 'ledgermq'));
    expect(installed.sort()).toEqual(
      ['LICENSE', 'NOTICE', 'README.md', 'dist', 'node_modules', 'package.json'].filter((name) => installed.includes(name)),
    );
    expect(installed).toContain('dist');
  });

  test('F42 command line: the installed program says what it can, and its version', async () => {
    const bin = join(dir, 'node_modules', '.bin', 'ledgermq');
    expect((await run(bin, ['--help'])).stdout).toContain('broker');
    expect((await run(bin, ['--version'])).stdout.trim()).toMatch(/^\d+\.\d+\.\d+/);
  });

  test('the installed program runs a cluster of one, and stops', async () => {
    const bin = join(dir, 'node_modules', '.bin', 'ledgermq');
    mkdirSync(join(dir, 'data'));
    const args = ['dev', '--replicas', '1', '--base-port', '0', '--json', '--dir', join(dir, 'data')];
    const child: ChildProcess = spawn(bin, args, { cwd: dir, stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const [line] = (await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line')) as [string];
      const { endpoints } = JSON.parse(line) as { endpoints: string[] };
      expect(endpoints).toHaveLength(1);
      const endpoint = ['--endpoint', endpoints[0] as string, '--json'];
      await run(bin, ['topic', 'create', 'orders', '--queues', '1', ...endpoint]);
      expect(JSON.parse((await run(bin, ['send', 'orders', '--body', 'hello', ...endpoint])).stdout)).toMatchObject({ offset: 0 });
      const read = ['consume', 'orders', '--group', 'billing', '--from', 'first', '--max', '1', '--timeout', '30'];
      expect(JSON.parse((await run(bin, [...read, ...endpoint])).stdout)).toMatchObject({ body: 'hello' });
      child.kill('SIGTERM');
      expect(await once(child, 'exit')).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
    }
  });

  test('no compiled file imports a source file', () => {
    const dist = join(dir, 'node_modules', 'ledgermq', 'dist');
    const compiled = readdirSync(dist, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'));
    const importing = compiled.filter((name) =>
      /import\('\.[^']*\.ts'|^(import|export) .* from '\.[^']*\.ts'/m.test(readFileSync(join(dist, name), 'utf8')),
    );
    expect(compiled.length).toBeGreaterThan(50);
    expect(importing).toEqual([]);
  });

  test("a user's TypeScript type-checks against it, and runs", async () => {
    writeFileSync(join(dir, 'consumer.ts'), CONSUMER);
    const config = {
      compilerOptions: {
        target: 'es2024',
        lib: ['es2024', 'esnext.disposable'],
        module: 'nodenext',
        strict: true,
        noEmit: true,
        skipLibCheck: false,
        types: ['node'],
        typeRoots: [join(ROOT, 'node_modules', '@types')],
      },
      files: ['consumer.ts'],
    };
    writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify(config));
    await run(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', '.']).catch((error: { stdout: string }) => expect.fail(error.stdout));
    const { stdout } = await run(process.execPath, ['consumer.ts']);
    expect(JSON.parse(stdout)).toEqual({ offset: 0, text: 'packed', server: 'function' });
  });
});
