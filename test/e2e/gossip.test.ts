import { afterEach, describe, expect, test } from 'vitest';
import { freeBasePort, PORT_STRIDE } from '../../src/cli/local-ports.ts';
import { resolveConfig } from '../../src/config.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import { makeTemporaryDirectory } from '../../src/io/node/temporary-directory.ts';
import { Server } from '../../src/server.ts';
import { until } from './test-cluster.ts';

const HOST = '127.0.0.1';
const GROUPS = ['a', 'b', 'c'] as const;
const running = new Set<Server>();
const directories: { remove(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all([...running].map((server) => server.stop()));
  running.clear();
  for (const directory of directories.splice(0)) await directory.remove();
});

interface Place {
  readonly brokerName: string;
  readonly replicaId: number;
  readonly dataDir: string;
}

/** Brokers of three groups in this process; the first group's are everybody's seeds. */
async function start(places: readonly Place[], basePort: number): Promise<Server[]> {
  const portOf = (at: number): number => basePort + at * PORT_STRIDE;
  const seeds = [0, 1, 2].map((at) => `localhost:${portOf(at)}`).join(',');
  const servers = places.map(({ brokerName, replicaId, dataDir }, at) => {
    const first = places.findIndex((place) => place.brokerName === brokerName);
    const replicas = [1, 2, 3].map((id) => `${id}@${HOST}:${portOf(first + id - 1)}`).join(',');
    const flags = { clusterId: 'gossip', brokerName, replicaId, dataDir, host: HOST, port: portOf(at), replicas, seeds, peerSecret: 's' };
    return new Server(resolveConfig({ flags: { ...flags, segmentBytes: 16 * 1024 * 1024 } }), nodeIo());
  });
  for (const server of servers) running.add(server);
  await Promise.all(servers.map((server) => server.start()));
  return servers;
}

async function nine(): Promise<Place[]> {
  const places: Place[] = [];
  for (const brokerName of GROUPS) {
    for (const replicaId of [1, 2, 3]) {
      const directory = await makeTemporaryDirectory('ledgermq-gossip-');
      directories.push(directory);
      places.push({ brokerName, replicaId, dataDir: directory.path });
    }
  }
  return places;
}

const sees = (server: Server, count: number): boolean => {
  const members = server.gossip?.members() ?? [];
  return members.length === count && members.every(({ state }) => state === 'alive');
};
const leadersKnown = (server: Server): boolean => {
  const { brokers } = server.gossip?.route([]) ?? { brokers: [] };
  return brokers.length === GROUPS.length && brokers.every(({ leader, replicas }) => leader !== 0 && replicas.length === 3);
};

describe('gossip of real brokers', () => {
  test('FAULTS 21 F02 F04 nine brokers of three groups find each other; one that ends leaves all routes; all at other addresses again in 5 s', async () => {
    const places = await nine();
    const servers = await start(places, await freeBasePort(HOST, 9));
    await until('all know all', () => servers.every((server) => sees(server, 9)));
    await until('all know all leaders', () => servers.every(leadersKnown));

    const gone = servers[8] as Server;
    await gone.stop();
    running.delete(gone);
    const others = servers.slice(0, 8);
    const listed = (server: Server): number | undefined =>
      server.gossip?.route([]).brokers.find(({ brokerName }) => brokerName === 'c')?.replicas.length;
    await until('it left all routes', () => others.every((server) => listed(server) === 2), 10_000);

    await Promise.all(others.map((server) => server.stop()));
    running.clear();
    // The same ids and directories, other addresses.
    const again = await start(places, await freeBasePort(HOST, 9));
    const startedMs = performance.now();
    await until('full view again', () => again.every((server) => sees(server, 9)), 30_000);
    console.log(`full view of nine brokers at new addresses after ${Math.round(performance.now() - startedMs)} ms`);
    await until('all know all leaders again', () => again.every(leadersKnown));
  });

  test('F02 a group of one without seeds answers its own routes', async () => {
    const directory = await makeTemporaryDirectory('ledgermq-gossip-');
    directories.push(directory);
    const port = await freeBasePort(HOST, 1);
    const server = new Server(resolveConfig({ flags: { dataDir: directory.path, port, segmentBytes: 16 * 1024 * 1024 } }), nodeIo());
    running.add(server);
    await server.start();
    await until('it leads', () => server.gossip?.route([]).brokers[0]?.leader === 1);
    expect(server.gossip?.route([]).brokers).toMatchObject([{ brokerName: 'a', replicas: [{ replicaId: 1 }] }]);
    expect(server.gossip?.members().map(({ self, broker }) => [self, broker.role])).toEqual([[true, 'leader']]);
  });
});
