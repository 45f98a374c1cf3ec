// What predict's later stages ask of the learned (learning.ts). A part that is left out corrects nothing.
import type { PlacementCorrections } from "./corrections.ts";
import type { GateBeliefs } from "./gate.ts";
import type { LeadMargins } from "./margins.ts";

export interface Adjustments {
  gate?: Pick<GateBeliefs, "probability">;
  margins?: Pick<LeadMargins, "correct">;
  placement?: Pick<PlacementCorrections, "factors" | "choose">;
}
