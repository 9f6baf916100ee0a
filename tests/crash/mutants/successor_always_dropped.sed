# engine/overlay/succession.cc
# An interrupted snapshot loses what its successor holds.
s/^  decision.roll_forward = holds_records && matches;$/  decision.roll_forward = false;/
