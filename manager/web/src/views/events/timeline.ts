import type { Step } from "../../api/types";

/** How much of the bar a step has. The shortest can still be seen and pointed at. */
export function share(step: Step, steps: Step[]): number {
  const all = steps.reduce((sum, s) => sum + s.seconds, 0);
  return Math.max(0.035, all > 0 ? step.seconds / all : 1 / steps.length);
}

const tones: Record<string, string> = {
  Steady: "t-steady",
  Suspect: "t-suspect",
  Confirm: "t-confirm",
  Fence: "t-fence",
  Freeze: "t-freeze",
  Elect: "t-elect",
  Promote: "t-promote",
  Verify: "t-verify",
  Swap: "t-swap",
  Hold: "t-hold",
};

export function toneOfStep(state: string): string {
  return tones[state] ?? "t-other";
}
