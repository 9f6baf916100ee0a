# engine/overlay/overlay.cc
# Free slots are written to while what recovery found is in the page cache only.
/What a recovery found may be in the page cache only/,/Admit/{
/PrepareToAppend/d
}
