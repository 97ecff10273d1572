import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isLeftover, NetHosts, ownerPrefix, sweepLeftovers } from '../../support/net-hosts.ts';

let hosts: NetHosts;
beforeEach(async () => {
  hosts = await NetHosts.create();
});
afterEach(() => hosts.destroy());

/** Answers each datagram at port 9000; resolves when it listens. */
async function echoAt(host: { name: string; address: string; namespace: string }): Promise<ChildProcess> {
  const program = `const s = require('dgram').createSocket('udp4'); s.on('message', (m, r) => { console.log('got'); s.send(m, r.port, r.address); });
    s.bind(9000, '0.0.0.0', () => console.log('up'))`;
  const child = hosts.spawn(host, process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child;
}

/** How many of `count` datagrams came back within a second after the last one. */
async function answered(from: Parameters<typeof echoAt>[0], to: string, count: number): Promise<number> {
  const program = `const s = require('dgram').createSocket('udp4'); let n = 0;
    const end = () => { console.log(n); process.exit(); };
    s.on('message', () => { if (++n === ${count}) end(); });
    for (let i = 0; i < ${count}; i++) s.send('x', 9000, '${to}');
    setTimeout(end, 1000)`;
  return Number(await hosts.run(from, process.execPath, ['-e', program]));
}

describe('F43 hosts of network namespaces', () => {
  test('each has its own address and name, and reaches the others by name', async () => {
    const [a, b] = [await hosts.add('a'), await hosts.add('b')];
    expect(a.address).not.toBe(b.address);
    await echoAt(b);
    expect(await answered(a, 'b', 10)).toBe(10);
    expect((await readFile('/etc/hosts', 'utf8')).includes(b.address)).toBe(false);
  });

  test('a cut drops one direction, counts it, and heals', async () => {
    const [a, b, c] = [await hosts.add('a'), await hosts.add('b'), await hosts.add('c')];
    let got = '';
    (await echoAt(b)).stdout?.on('data', (chunk) => {
      got += chunk;
    });
    const oneWay = await hosts.cut([{ from: a, to: b }]);
    expect(await answered(a, 'b', 10)).toBe(0);
    expect(await oneWay.droppedPackets()).toBe(10);
    expect(await answered(c, 'b', 10)).toBe(10);
    const otherWay = await hosts.cut([{ from: b, to: a }]);
    expect(await oneWay.heal()).toBe(10);
    got = '';
    expect(await answered(a, 'b', 10)).toBe(0);
    expect(got).toBe('got\n'.repeat(10));
    expect(await otherWay.heal()).toBe(10);
    expect(await answered(a, 'b', 10)).toBe(10);
  });

  test('loss drops a part', async () => {
    const [a, b] = [await hosts.add('a'), await hosts.add('b')];
    await echoAt(b);
    const loss = await hosts.cut([{ from: a, to: b }], 50);
    const came = await answered(a, 'b', 200);
    expect(came).toBeGreaterThan(40);
    expect(came).toBeLessThan(160);
    expect(await loss.heal()).toBe(200 - came);
  });

  test('a changed address is found under the old name by a process that runs already', async () => {
    const [a, b] = [await hosts.add('a'), await hosts.add('b')];
    const old = b.address;
    const asker = hosts.spawn(
      a,
      process.execPath,
      ['-e', `process.stdin.on('data', () => require('dns').lookup('b', (e, address) => console.log(address)))`],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const ask = async (): Promise<string> => {
      const answer = new Promise((resolve) => asker.stdout?.once('data', resolve));
      asker.stdin?.write('?');
      return String(await answer).trim();
    };
    expect(await ask()).toBe(old);
    await hosts.changeAddress(b);
    expect(b.address).not.toBe(old);
    expect(await ask()).toBe(b.address);
    hosts.setName('seeds', b.address);
    expect(await hosts.run(a, 'getent', ['hosts', 'seeds'])).toContain(b.address);
    await echoAt(b);
    expect(await answered(a, 'b', 3)).toBe(3);
    expect(await answered(a, old, 3)).toBe(0);
  });

  test('destroy ends the processes and leaves nothing', async () => {
    const a = await hosts.add('a');
    const child = await echoAt(a);
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    await hosts.destroy();
    expect(await ended).toBe('SIGKILL');
    expect((await readdir('/run/netns')).filter((name) => name.startsWith(ownerPrefix()))).toEqual([]);
    expect(existsSync(`/etc/netns/${a.namespace}`)).toBe(false);
  });

  test("what a killed run left is swept, and a living run's is not", async () => {
    const a = await hosts.add('a');
    const program = `import { NetHosts } from ${JSON.stringify(`${import.meta.dirname}/../../support/net-hosts.ts`)};
      const hosts = await NetHosts.create(); const host = await hosts.add('left');
      hosts.spawn(host, 'sleep', ['1000'], { stdio: 'ignore' });
      console.log(host.namespace); setInterval(() => {}, 1000)`;
    const other = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    const left = String(await new Promise((resolve) => other.stdout.once('data', resolve))).trim();
    expect(isLeftover(left)).toBe(false);
    const gone = new Promise((resolve) => other.once('exit', resolve));
    other.kill('SIGKILL');
    await gone;
    expect(isLeftover(left)).toBe(true);
    expect(await sweepLeftovers()).toContain(left);
    expect(await readdir('/run/netns')).not.toContain(left);
    expect(await readdir('/run/netns')).toContain(a.namespace);
  });
});
