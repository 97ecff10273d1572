import { averagely } from './averagely.ts';
import { assignSticky } from './sticky.ts';
import type { AssignableQueue, AssignmentPlan, Strategy } from './types.ts';
import { NOBODY } from './types.ts';

/** Places of the queues in `queues`, by the zone of their broker group, zones in order of their first queue. */
function byZone(queues: readonly AssignableQueue[], { brokerZones }: AssignmentPlan): Map<string, number[]> {
  const zoneOf = new Map(brokerZones);
  const zones = new Map<string, number[]>();
  queues.forEach(({ brokerName }, at) => {
    const zone = zoneOf.get(brokerName) ?? '';
    const places = zones.get(zone);
    if (places === undefined) zones.set(zone, [at]);
    else places.push(at);
  });
  return zones;
}

/** RocketMQ's ByMachineRoom: the queues of the named rooms, averagely over all members; those of other rooms are nobody's. */
export const byMachineRoom: Strategy = (topic, queues, members, plan) => {
  const owners = new Int32Array(queues.length).fill(NOBODY);
  const zones = byZone(queues, plan);
  const places = plan.machineRooms.flatMap((room) => zones.get(room) ?? []).sort((a, b) => a - b);
  const within = averagely(
    topic,
    places.map((at) => queues[at] as AssignableQueue),
    members,
    plan,
  );
  places.forEach((at, i) => {
    owners[at] = within[i] as number;
  });
  return owners;
};

/**
 * RocketMQ's MachineRoomNearby: a zone's queues go to the members of that zone; those of a zone without members, to all. Within
 * either, bounded rendezvous hashing (`sticky`): shares differ by one at most, and a member that comes or goes moves little more
 * than its own.
 */
export const machineRoomNearby: Strategy = (topic, queues, members, plan) => {
  const owners = new Int32Array(queues.length).fill(NOBODY);
  for (const [zone, places] of byZone(queues, plan)) {
    const near = Array.from(members.keys()).filter((at) => members[at]?.zone === zone);
    const takers = near.length === 0 ? Array.from(members.keys()) : near;
    const within = assignSticky(
      // Drawn zone by zone, or the same members would get the larger share of each.
      `${topic}@${zone}`,
      places.map((at) => queues[at] as AssignableQueue),
      takers.map((at) => members[at]?.name as string),
    );
    places.forEach((at, i) => {
      owners[at] = takers[within[i] as number] as number;
    });
  }
  return owners;
};
