// interrupt.h: Ctrl-C (and SIGTERM, SIGHUP) as a question that long work asks, so that it ends in
// good order. Verbs that do not ask are ended by the signal at once.
#pragma once

namespace cowl {

// From now on the signals only set a flag; a second one ends the process.
void CatchInterrupts();
bool Interrupted();
// Ends this process as the signal would have; returns when there was none.
void DieOfInterrupt();

}  // namespace cowl
