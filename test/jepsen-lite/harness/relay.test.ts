import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type NetHost, NetHosts } from '../../support/net-hosts.ts';
import { compileRelay, Relay } from '../relay/relay.ts';
import { Volumes } from '../volumes.ts';

let hosts: NetHosts;
let volumes: Volumes;
let program: string;
let a: NetHost;
let b: NetHost;

beforeAll(async () => {
  volumes = await Volumes.create();
  program = await compileRelay(volumes.directory);
  hosts = await NetHosts.create();
  [a, b] = [await hosts.add('a'), await hosts.add('b')];
  const echo = `const s = require('dgram').createSocket('udp4'); s.on('message', (m, r) => s.send(m, r.port, r.address)); s.bind(9000);
    require('net').createServer((c) => c.pipe(c)).listen(9001, () => console.log('up'))`;
  const child = hosts.spawn(b, process.execPath, ['-e', echo], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
});
afterAll(async () => {
  await hosts?.destroy();
  await volumes?.destroy();
});

/** 50 numbered datagrams there and back: median of the round trip, and how many came before an earlier one. */
async function pings(): Promise<{ medianMs: number; came: number; overtaken: number }> {
  const text = `const s = require('dgram').createSocket('udp4'); const sent = [], took = []; let last = -1, overtaken = 0;
    const end = () => { took.sort((x, y) => x - y); console.log(JSON.stringify({ medianMs: took[took.length >> 1], came: took.length, overtaken })); process.exit(); };
    s.on('message', (m) => { const n = Number(m); took.push(performance.now() - sent[n]); if (n < last) overtaken++; last = Math.max(last, n); if (took.length === 50) end(); });
    let n = 0; const timer = setInterval(() => { sent[n] = performance.now(); s.send(String(n), 9000, 'b'); if (++n === 50) clearInterval(timer); }, 4);
    setTimeout(end, 5000)`;
  return JSON.parse(await hosts.run(a, process.execPath, ['-e', text]));
}

/** 4 MB there and back by TCP; the hash must be the same. */
async function stream(): Promise<boolean> {
  const text = `const { createHash, randomBytes } = require('crypto'); const bytes = randomBytes(4e6); const hash = createHash('sha1'); let got = 0;
    const c = require('net').connect(9001, 'b', () => c.write(bytes)); c.on('data', (d) => { hash.update(d); if ((got += d.length) === bytes.length) {
      console.log(hash.digest('hex') === createHash('sha1').update(bytes).digest('hex')); process.exit(); } });`;
  return JSON.parse(await hosts.run(a, process.execPath, ['-e', text]));
}

describe('F43 the relay', () => {
  test('delays and reorders packets of both directions, keeps streams whole, and is gone afterwards', async () => {
    const direct = await pings();
    expect(direct).toMatchObject({ came: 50, overtaken: 0 });
    const relay = await Relay.start(program, hosts, b, { delayMs: 30, jitterMs: 40, seed: 1 });
    const delayed = await pings();
    expect(delayed.came).toBe(50);
    expect(delayed.medianMs).toBeGreaterThan(60);
    expect(delayed.overtaken).toBeGreaterThan(5);
    expect(await stream()).toBe(true);
    const counts = await relay.end();
    expect(counts.packets).toBeGreaterThan(200);
    expect(counts.reordered).toBeGreaterThan(10);
    const after = await pings();
    expect(after).toMatchObject({ came: 50, overtaken: 0 });
    expect(after.medianMs).toBeLessThan(30);
    expect(await stream()).toBe(true);
  });

  test('with delay alone nothing is overtaken', async () => {
    const relay = await Relay.start(program, hosts, b, { delayMs: 20, jitterMs: 0, seed: 1 });
    const delayed = await pings();
    expect(delayed).toMatchObject({ came: 50, overtaken: 0 });
    expect(delayed.medianMs).toBeGreaterThan(40);
    expect((await relay.end()).reordered).toBe(0);
  });
});
