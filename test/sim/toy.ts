import { writeU32 } from '../../src/base/bytes.ts';
import type { Io } from '../../src/io/io.ts';
import { SimDisk } from './disk.ts';
import { SimNet } from './net.ts';
import { SimProcess } from './process.ts';
import { SimScheduler } from './scheduler.ts';
import type { TraceSink } from './trace.ts';

/** A bare world for the simulator's own tests: processes without a broker. */
export interface ToyWorld {
  readonly scheduler: SimScheduler;
  readonly net: SimNet;
  readonly failures: unknown[];
  process(name: string): SimProcess;
}

export function toyWorld(seed: number, sink: TraceSink | null = null): ToyWorld {
  const scheduler = new SimScheduler(seed, sink);
  const net = new SimNet(scheduler);
  const failures: unknown[] = [];
  let id = 1;
  return {
    scheduler,
    net,
    failures,
    process: (name) => new SimProcess(id++, name, scheduler, net, new SimDisk(name, scheduler), (_process, error) => failures.push(error)),
  };
}

export const TOY_PORT = 7461;
export const TOY_FILE = '/data/register';

/** A register behind a socket: each received byte is written durably before it is echoed. */
export async function echoRegister(io: Io): Promise<void> {
  await io.disk.mkdir('/data');
  const file = await io.disk.open(TOY_FILE, { access: 'readwrite', create: true });
  await io.disk.syncDirectory('/data');
  let count = (await file.sizeBytes()) / 4;
  await io.net.listenStream('', TOY_PORT, () => ({
    onData: (connection, bytes) => {
      const value = bytes[0] as number;
      const record = new Uint8Array(4);
      writeU32(record, 0, value);
      const position = count++ * 4;
      void file.write(record, position).then(async () => {
        await file.sync();
        connection.write(Uint8Array.of(value));
      });
    },
    onClose: () => {},
  }));
}

/** Sends 1, 2, 3, …, one at a time, dialling again when the connection ends; tells of every echo. */
export function echoClient(io: Io, host: string, onEcho: (value: number) => void, limit = 255): void {
  let next = 1;
  const dial = (): void => {
    io.net.dialStream(host, TOY_PORT, {
      onOpen: (connection) => connection.write(Uint8Array.of(next)),
      onData: (connection, bytes) => {
        if (bytes[0] !== next) return;
        onEcho(next);
        if (next < limit) connection.write(Uint8Array.of(++next));
      },
      onClose: () => {
        io.clock.setTimer(50, dial);
      },
    });
  };
  dial();
}
