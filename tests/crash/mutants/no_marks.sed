# engine/overlay/overlay.cc
# Nothing on the disk says that the last epoch was flushed, so damage to it is taken for a crash's doing.
/^bool Overlay::NeedsMark() const {$/,/^}$/s/return /&closing_ \&\& /
