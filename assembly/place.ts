// Expected milliseconds of a chain on each cluster. In: proximity of clusters × services (resident), a demand in calls and bytes per
// service, further terms per cluster with a factor each. Out: the service term and the total of each cluster.
//   service[c] = Σ_s calls[s] · latencyMs[c, s] + bytes[s] · msPerByte[c, s];  total[c] = factor[0] · service[c] + Σ_t factor[t] · term[t, c]
// Algorithm: a dense product, four clusters a lane vector. The matrix is stored as it is read: for each four clusters, for each
// service, four latencies then four ms per byte. An instance holds either a model or a placement, both at MODEL.

import { MODEL } from "./layout";

/** Terms besides the services: transfer, cold starts, queueing, hops, price, and room to grow. */
const TERMS_MAX: usize = 8;
const LANES: usize = 4;
const PAGE_BYTES: usize = 65536;

let blocks: usize = 0;
let services: usize = 0;
let demandAt: usize = 0;
let factorsAt: usize = 0;
let termsAt: usize = 0;
let serviceMsAt: usize = 0;
let totalMsAt: usize = 0;

/** Grows memory once for this many clusters and services; false where it is refused. The caller bounds both. */
export function placeCreate(clusterCount: u32, serviceCount: u32): bool {
  blocks = (<usize>clusterCount + LANES - 1) / LANES;
  services = <usize>serviceCount;
  const column = blocks * LANES * 4;
  demandAt = MODEL + blocks * services * 32;
  factorsAt = (demandAt + services * 8 + 15) & ~15;
  termsAt = (factorsAt + (TERMS_MAX + 1) * 4 + 15) & ~15;
  serviceMsAt = termsAt + TERMS_MAX * column;
  totalMsAt = serviceMsAt + column;
  const pages = <i32>((totalMsAt + column + PAGE_BYTES - 1) / PAGE_BYTES) - memory.size();
  return pages <= 0 || memory.grow(pages) >= 0;
}

export function addressPlaceProximity(): usize { return MODEL; }
/** (calls, bytes) of each service. */
export function addressPlaceDemand(): usize { return demandAt; }
export function addressPlaceFactors(): usize { return factorsAt; }
/** Term t of cluster c, f32, at t · lanes + c; lanes is the number of clusters rounded up to four. */
export function addressPlaceTerms(): usize { return termsAt; }
export function addressPlaceServiceMs(): usize { return serviceMsAt; }
export function addressPlaceTotalMs(): usize { return totalMsAt; }

/** Scores all clusters with the first `terms` terms (at most TERMS_MAX). */
export function place(terms: u32): void {
  const column = blocks << 4;
  const serviceFactor = v128.load32_splat(factorsAt);
  let proximity = MODEL;
  for (let at: usize = 0; at < column; at += 16) {
    let latency = f32x4.splat(0);
    let transfer = f32x4.splat(0);
    for (let demand = demandAt; demand < demandAt + (services << 3); demand += 8) {
      latency = f32x4.add(latency, f32x4.mul(v128.load32_splat(demand), v128.load(proximity)));
      transfer = f32x4.add(transfer, f32x4.mul(v128.load32_splat(demand, 4), v128.load(proximity, 16)));
      proximity += 32;
    }
    const serviceMs = f32x4.add(latency, transfer);
    v128.store(serviceMsAt + at, serviceMs);
    let total = f32x4.mul(serviceFactor, serviceMs);
    for (let t: usize = 0; t < <usize>min(terms, <u32>TERMS_MAX); t++) {
      const factor = v128.load32_splat(factorsAt + (t << 2), 4);
      total = f32x4.add(total, f32x4.mul(factor, v128.load(termsAt + t * column + at)));
    }
    v128.store(totalMsAt + at, total);
  }
}
