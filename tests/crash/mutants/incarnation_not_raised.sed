# engine/overlay/journal.cc
# A tail that a recovery gave up fits on again.
s/^  next.incarnation = root_.incarnation + 1;$/  next.incarnation = root_.incarnation;/
