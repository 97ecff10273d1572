import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';

/**
 * The cluster's name server, as a process in a host: UDP port 53, addresses (A) only, no caching. A line on standard input is a JSON
 * object of all names and their addresses, which replaces what was known.
 */
const TYPE_A = 1;
const CLASS_IN = 1;
const TTL_S = 0;
const NXDOMAIN = 3;

let names: Readonly<Record<string, readonly string[]>> = {};
const socket = createSocket('udp4');

socket.on('message', (query, from) => {
  const answer = answerOf(query);
  if (answer !== null) socket.send(answer, from.port, from.address);
});
socket.bind(53, '0.0.0.0', () => process.stdout.write('listening\n'));
for await (const line of createInterface({ input: process.stdin })) {
  names = JSON.parse(line) as typeof names;
  process.stdout.write('known\n');
}
process.exit(0);

/** RFC 1035, section 4; null: not understood. */
function answerOf(query: Buffer): Buffer | null {
  const labels: string[] = [];
  let at = 12;
  while (at < query.length && query[at] !== 0) {
    const length = query[at] as number;
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const end = at + 5;
  if (query.length < end) return null;
  const type = query.readUInt16BE(at + 1);
  const known = names[labels.join('.').toLowerCase()];
  const addresses = type === TYPE_A ? (known ?? []) : [];
  const header = Buffer.from(query.subarray(0, 12));
  // A response, authoritative; recursion as it was asked for.
  header.writeUInt16BE(0x8480 | (query.readUInt16BE(2) & 0x0100) | (known === undefined ? NXDOMAIN : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(addresses.length, 6);
  header.writeUInt32BE(0, 8);
  return Buffer.concat([header, query.subarray(12, end), ...addresses.map(record)]);
}

/** Its name is that of the question. */
function record(address: string): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16BE(0xc00c, 0);
  bytes.writeUInt16BE(TYPE_A, 2);
  bytes.writeUInt16BE(CLASS_IN, 4);
  bytes.writeUInt32BE(TTL_S, 6);
  bytes.writeUInt16BE(4, 10);
  address.split('.').forEach((part, index) => void bytes.writeUInt8(Number(part), 12 + index));
  return bytes;
}
