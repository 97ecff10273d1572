import { afterEach, describe, expect, test } from 'vitest';
import type { DatagramHandler, DatagramSocket } from '../../src/io/net.ts';
import { MAX_DATAGRAM_BYTES } from '../../src/io/net.ts';
import { NodeNet } from '../../src/io/node/net.ts';

const HOST = '127.0.0.1';
const net = new NodeNet();
const open: DatagramSocket[] = [];
afterEach(async () => {
  for (const socket of open.splice(0)) await socket.close();
});
async function listen(onDatagram: DatagramHandler): Promise<DatagramSocket> {
  const socket = await net.listenDatagrams(HOST, 0, onDatagram);
  open.push(socket);
  return socket;
}

describe('datagrams', () => {
  test('one arrives whole, with the address to answer to; its memory may be used again at once', async () => {
    const answered = Promise.withResolvers<string>();
    const echo = await listen((bytes, host, port) => echo.send(bytes, host, port));
    const socket = await listen((bytes) => answered.resolve(Buffer.from(bytes).toString()));
    expect(echo.port).toBeGreaterThan(0);
    const bytes = Buffer.from('hello');
    socket.send(bytes, HOST, echo.port);
    bytes.fill(0);
    expect(await answered.promise).toBe('hello');
  });

  test('names are resolved; the newest datagram waits for the answer', async () => {
    const heard = Promise.withResolvers<string>();
    const receiver = await listen((bytes) => heard.resolve(Buffer.from(bytes).toString()));
    const sender = await listen(() => {});
    sender.send(Buffer.from('older'), 'localhost', receiver.port);
    sender.send(Buffer.from('newer'), 'localhost', receiver.port);
    expect(await heard.promise).toBe('newer');
  });

  test('what cannot be sent is lost without a word: a dead port, an unknown name, too many bytes, a closed socket', async () => {
    const heard: number[] = [];
    const last = Promise.withResolvers<void>();
    const receiver = await listen((bytes) => {
      heard.push(bytes.length);
      if (bytes.length === 1) last.resolve();
    });
    const gone = await listen(() => {});
    await gone.close();
    const sender = await listen(() => {});
    sender.send(Buffer.alloc(3), HOST, gone.port);
    sender.send(Buffer.alloc(3), 'no-such-host.invalid', 1);
    gone.send(Buffer.alloc(3), HOST, receiver.port);
    sender.send(Buffer.alloc(MAX_DATAGRAM_BYTES + 1), HOST, receiver.port);
    sender.send(Buffer.alloc(MAX_DATAGRAM_BYTES), HOST, receiver.port);
    sender.send(Buffer.alloc(1), HOST, receiver.port);
    await last.promise;
    expect(heard).toEqual([MAX_DATAGRAM_BYTES, 1]);
  });

  test('a port that is taken is said', async () => {
    const { port } = await listen(() => {});
    await expect(net.listenDatagrams(HOST, port, () => {})).rejects.toThrow('EADDRINUSE');
  });
});
