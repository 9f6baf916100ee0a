# engine/overlay/overlay.cc
# Free slots are written to while what recovery found is in the page cache only.
/nothing is written into free slots before it is durable/{
n
d
}
